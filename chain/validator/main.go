// SPDX-License-Identifier: Apache-2.0

// validator is one validator of the permissioned network: CometBFT for consensus in this process, over one geth for execution.
//
// It is started by `ballotboard chain start`, which writes its configuration; docs/network.md describes the whole. It does not daemonize
// and expects a supervisor that restarts it after every exit except status 3 (see package app).
package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/proxy"
	"github.com/prometheus/client_golang/prometheus"

	"ballotboard/validator/app"
	"ballotboard/validator/engine"
)

type options struct {
	home, engineURL, ipc, jwt     string
	p2p, rpc, metrics             string
	peers                         string
	commitTimeout, proposeTimeout time.Duration
	oneHost                       bool
	level                         slog.Level
}

func main() {
	var o options
	flag.StringVar(&o.home, "home", ".", "folder with config/{genesis,node_key,priv_validator_key}.json and data/")
	flag.StringVar(&o.engineURL, "engine", "http://127.0.0.1:8551", "Engine API of the own geth")
	flag.StringVar(&o.ipc, "ipc", "geth/geth.ipc", "IPC socket of the own geth, to remove dangling blocks after a crash")
	flag.StringVar(&o.jwt, "jwt", "jwt.hex", "file with the secret of the Engine API, in hex")
	flag.StringVar(&o.p2p, "p2p", "tcp://127.0.0.1:26656", "listen address for the other validators")
	flag.StringVar(&o.rpc, "rpc", "tcp://127.0.0.1:26657", "listen address of CometBFT's RPC, from which evidence is collected")
	flag.StringVar(&o.metrics, "metrics", "", "listen address for Prometheus, like 127.0.0.1:26660; empty for none")
	flag.StringVar(&o.peers, "peers", "", "id@host:port,… of all other validators; nobody else is let in")
	flag.DurationVar(&o.commitTimeout, "timeout-commit", time.Second, "pause after a block; less than 1s would let the time of blocks run ahead")
	flag.DurationVar(&o.proposeTimeout, "timeout-propose", 3*time.Second, "how long to wait for a proposal: time for 8 MiB to arrive and run")
	flag.BoolVar(&o.oneHost, "one-host", false, "all validators run on one machine, for trying out")
	flag.TextVar(&o.level, "log", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "validator:", err)
		os.Exit(app.ExitRetry)
	}
}

// run starts the validator and returns after SIGTERM or SIGINT.
func run(o options) error {
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: o.level}))
	raw, err := os.ReadFile(o.jwt)
	if err != nil {
		return err
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(secret) != 32 {
		return fmt.Errorf("%s does not hold 64 hex digits", o.jwt)
	}
	metrics := app.NewMetrics(prometheus.DefaultRegisterer)
	client, err := engine.Dial(o.engineURL, o.ipc, secret, metrics.ObserveEngine)
	if err != nil {
		return err
	}
	application := app.New(log.With("module", "app"), client, peerIDs(o.peers), metrics)

	c := cometConfig(o)
	for _, path := range []string{c.PrivValidatorKeyFile(), c.PrivValidatorStateFile()} {
		if _, err := os.Stat(path); err != nil {
			return err // privval ends the process without a word
		}
	}
	key := privval.LoadFilePV(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
	nodeKey, err := p2p.LoadNodeKey(c.NodeKeyFile())
	if err != nil {
		return err
	}
	// The handshake, with its replay, happens in NewNode.
	n, err := node.NewNode(c, key, nodeKey, proxy.NewConnSyncLocalClientCreator(application), node.DefaultGenesisDocProviderFunc(c),
		config.DefaultDBProvider, node.DefaultMetricsProvider(c.Instrumentation), cometLogger{log})
	if err != nil {
		return err
	}
	env, err := n.ConfigureRPC() // the only public way to the consensus state
	if err != nil {
		return err
	}
	application.Attach(&app.Chain{Blocks: n.BlockStore(), Self: key.GetAddress(), State: env.ConsensusState.GetState})
	if err := n.Start(); err != nil {
		return err
	}
	log.Info("started", "node", nodeKey.ID(), "validator", key.GetAddress())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	go func() { // consensus may be waiting for geth, without end; dying here is as safe as anywhere
		select {
		case <-signals:
		case <-time.After(stopLimit):
		}
		os.Exit(0)
	}()
	err = n.Stop()
	n.Wait()
	return err
}

// stopLimit is how long an orderly end may take.
const stopLimit = 5 * time.Second

// cometConfig is CometBFT's configuration; what is not named here has its default.
func cometConfig(o options) *config.Config {
	c := config.DefaultConfig().SetRoot(o.home)
	c.RPC.ListenAddress = o.rpc
	c.P2P.ListenAddress = o.p2p
	// Who may take part is on a list: nothing is discovered, everyone dials everyone, and others are turned away (app.Query).
	c.P2P.PexReactor, c.P2P.PersistentPeers, c.FilterPeers = false, o.peers, true
	c.P2P.AddrBookStrict, c.P2P.AllowDuplicateIP = !o.oneHost, o.oneHost
	c.P2P.PersistentPeersMaxDialPeriod = 5 * time.Second // a peer that was away an hour is back in seconds
	// Blocks of 8 MiB must reach everyone within timeout_propose: no throttle, larger packets, shorter naps.
	c.P2P.SendRate, c.P2P.RecvRate = 200<<20, 200<<20
	c.P2P.MaxPacketMsgPayloadSize = 64 << 10
	c.P2P.FlushThrottleTimeout = 10 * time.Millisecond
	c.Consensus.PeerGossipSleepDuration = 10 * time.Millisecond
	c.Consensus.TimeoutPropose, c.Consensus.TimeoutCommit = o.proposeTimeout, o.commitTimeout
	c.Mempool.Type = config.MempoolTypeNop // transactions wait in geth's pool
	c.TxIndex.Indexer = "null"
	if o.metrics != "" {
		c.Instrumentation.Prometheus, c.Instrumentation.PrometheusListenAddr = true, o.metrics
	}
	return c
}

// peerIDs are the node ids in a list of id@host:port.
func peerIDs(peers string) (ids []string) {
	for p := range strings.SplitSeq(peers, ",") {
		if id, _, ok := strings.Cut(p, "@"); ok {
			ids = append(ids, id)
		}
	}
	return
}
