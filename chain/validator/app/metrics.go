// SPDX-License-Identifier: Apache-2.0

package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what CometBFT's own (height, rounds, missing validators, peers, block interval: cometbft_*) do not show.
type Metrics struct {
	height           prometheus.Gauge
	transactions     prometheus.Counter
	turnsSkipped     prometheus.Counter
	proposalsRefused *prometheus.CounterVec
	peersRefused     prometheus.Counter
	engineRetries    prometheus.Counter
	blocksRefed      prometheus.Counter
	engineSeconds    *prometheus.HistogramVec
}

// NewMetrics registers the metrics; CometBFT serves what is in prometheus.DefaultRegisterer.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "validator", Name: name, Help: help})
	}
	return &Metrics{
		height:       f.NewGauge(prometheus.GaugeOpts{Namespace: "validator", Name: "height", Help: "Last committed block."}),
		transactions: counter("transactions_total", "EVM transactions in committed blocks."),
		turnsSkipped: counter("turns_skipped_total", "Own turns without a proposal, because the execution client did not deliver."),
		proposalsRefused: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "validator", Name: "proposals_refused_total", Help: "Proposals that were voted against, by the rule they break.",
		}, []string{"rule"}),
		peersRefused:  counter("peers_refused_total", "Connections of nodes that are not on the list."),
		engineRetries: counter("engine_retries_total", "Calls to the execution client that are tried again."),
		blocksRefed:   counter("blocks_refed_total", "Blocks given again to an execution client that had lost them."),
		engineSeconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "validator", Name: "engine_seconds", Help: "Duration of calls to the execution client.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, []string{"method", "failed"}),
	}
}

// ObserveEngine records one call to the execution client.
func (m *Metrics) ObserveEngine(method string, took time.Duration, failed bool) {
	label := "no"
	if failed {
		label = "yes"
	}
	m.engineSeconds.WithLabelValues(method, label).Observe(took.Seconds())
}
