// SPDX-License-Identifier: Apache-2.0

// validator is one validator of the permissioned network: CometBFT for consensus in this process, over one geth for execution.
//
// It is started by `ballotboard chain start`, which writes its configuration; docs/network.md describes the whole. It does not daemonize
// and expects a supervisor that restarts it after every exit except status 3 (see package app).
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/proxy"
	comet "github.com/cometbft/cometbft/types"
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
	flag.StringVar(&o.peers, "peers", "", "id@host:port,… of validators to begin with; the chain names those that are let in")
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
	ctx, cancel := context.WithTimeout(context.Background(), app.Patience)
	if operators, err := client.Operators(ctx); err == nil { // else those of the command line, until geth answers
		c.P2P.PersistentPeers = strings.Join(peers(operators, nodeKey.ID()), ",")
	}
	cancel()
	application := app.New(log.With("module", "app"), client, peerIDs(c.P2P.PersistentPeers), metrics)
	// The handshake, with its replay, happens in NewNode.
	n, err := node.NewNode(c, signer(key), nodeKey, proxy.NewConnSyncLocalClientCreator(application), node.DefaultGenesisDocProviderFunc(c),
		config.DefaultDBProvider, node.DefaultMetricsProvider(c.Instrumentation), cometLogger{log})
	if err != nil {
		return err
	}
	env, err := n.ConfigureRPC() // the only public way to the consensus state
	if err != nil {
		return err
	}
	application.Attach(&app.Chain{
		Blocks: n.BlockStore(), Self: key.GetAddress(), State: env.ConsensusState.GetState,
		Meet: func(operators []engine.Operator, allowed func(id string) bool) error {
			return meet(n.Switch(), client, operators, allowed)
		},
	})
	if err := n.Start(); err != nil {
		return err
	}
	go application.Meet(true)
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

// signer is what signs with the validator's key; the test build replaces it by one whose clock is wrong.
var signer = func(key comet.PrivValidator) comet.PrivValidator { return key }

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

// meet connects to the validators that the chain names, of consensus and of geth, and ends connections to nodes that are not allowed. CometBFT
// keeps connections by itself only to those that it knew at its start, hence app.Meet does this again and again.
func meet(sw *p2p.Switch, client *engine.Client, operators []engine.Operator, allowed func(id string) bool) error {
	for _, p := range sw.Peers().List() {
		if !allowed(string(p.ID())) {
			sw.StopPeerGracefully(p)
		}
	}
	self := sw.NodeInfo().ID()
	return errors.Join(
		sw.DialPeersAsync(peers(operators, self)), // those that are connected already are passed over
		client.Meet(context.Background(), slices.DeleteFunc(operators, func(o engine.Operator) bool { return o.NodeID == string(self) })),
	)
}

// peers are the operators other than ourselves, as CometBFT names them. An address that is none is left out, since CometBFT would not start
// with it and would dial nobody; one that cannot be looked up now stays.
func peers(operators []engine.Operator, self p2p.ID) (peers []string) {
	for _, o := range operators {
		_, err := p2p.NewNetAddressString(o.Peer())
		if _, lookup := err.(p2p.ErrNetAddressLookup); o.NodeID != string(self) && (err == nil || lookup) {
			peers = append(peers, route(o.Peer()))
		}
	}
	return
}

// route is how an address of the list is reached; the test build leads through relays, which can be cut.
var route = func(address string) string { return address }

// peerIDs are the node ids in a list of id@host:port.
func peerIDs(peers string) (ids []string) {
	for p := range strings.SplitSeq(peers, ",") {
		if id, _, ok := strings.Cut(p, "@"); ok {
			ids = append(ids, id)
		}
	}
	return
}
