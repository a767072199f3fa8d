// SPDX-License-Identifier: Apache-2.0

// Package app is the heart of a validator: the ABCI application by which CometBFT decides EVM blocks and geth executes them.
//
// CometBFT height h is EVM block h, and the app hash after h is the hash of EVM block h. So the signed CometBFT header h+1, which holds
// that app hash, vouches for EVM block h and everything under its roots.
//
// # Commit protocol
//
//	ProcessProposal(h)  newPayload(h): geth runs and stores the block
//	FinalizeBlock(h)    newPayload(h) again unless it was just called valid; the head does not move
//	Commit(h)           forkchoiceUpdated(h): head = safe = finalized
//
// CometBFT writes and syncs block h to its store before FinalizeBlock(h), and the response of FinalizeBlock(h) before Commit(h). With the
// head moved in Commit and nowhere else it is an invariant that geth's head is never above CometBFT's store, and that where the two are
// equal the response is stored. Hence every moment at which validator, geth or both may die is one of the cases that CometBFT's
// handshake knows: it replays the blocks from geth's head (what Info answers) up to its store. main_test.go of the module dies at each of them.
//
// # Changes of the validator set
//
// They are made by the Validators contract (contracts/IValidators.sol). FinalizeBlock(h) gives CometBFT those that EVM block h-1 made: it is
// the head, committed everywhere, so what it says is a function of the chain, the same at every replay and for every execution client.
// Reading block h itself would mean asking for a state that is no head yet. CometBFT lets them take force at h+2, which is block h-1 plus 3.
//
// Moving the head in FinalizeBlock would break this: after a crash between the two, Info would report a height whose response CometBFT
// does not have.
package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/state"
	comet "github.com/cometbft/cometbft/types"
	api "github.com/ethereum/go-ethereum/beacon/engine"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"ballotboard/validator/engine"
	"ballotboard/validator/rules"
)

const (
	// BuildTime is how long geth fills a payload that was not started right after the block before (a round after the first, a restart).
	BuildTime = 300 * time.Millisecond
	// Patience limits the calls to geth within a proposal step: long enough for a full block on a slow disk, short enough that others
	// are not waiting for one who cannot answer.
	Patience = 5 * time.Second
	// retryPause is the time between two calls to a geth that is down or behind, and retryLog how many of them make one line of log.
	retryPause = 100 * time.Millisecond
	retryLog   = 50
	// startLimit is how long geth may take to answer when the validator starts.
	startLimit = time.Minute
	// force is how many blocks after the one that changes the validators CometBFT's set has changed.
	force = 3
	// meetAgain is after how many blocks connections to the validators are looked at: a minute.
	meetAgain = 60
)

// Exit statuses of a validator that stops by itself. The supervisor restarts it after the first and asks a person after the second.
const (
	ExitRetry    = 1
	ExitDiverged = 3
)

// Step is called with the name of each point of the commit protocol; the crash test sets it and dies there.
var Step = func(point string, height int64) {}

// Lie is nil; the test build sets it, to propose what is wrong instead of what is right.
var Lie func(height int64, txs [][]byte) [][]byte

// Blocks is what the application reads of CometBFT's block store.
type Blocks interface {
	LoadBlock(height int64) *comet.Block
	LoadBlockMeta(height int64) *comet.BlockMeta
}

// Chain is the node around the application. Before Attach, during CometBFT's handshake, there is none.
type Chain struct {
	Blocks Blocks
	// Self is the own CometBFT address, and State CometBFT's latest: asking for it waits while a block is being applied.
	Self  []byte
	State func() state.State
	// Meet keeps connections to these validators, and ends those to nodes that are not `allowed`.
	Meet func(operators []engine.Operator, allowed func(id string) bool) error
}

// App implements CometBFT's ABCI. CometBFT calls the consensus methods one after the other; Info and Query come from other goroutines.
type App struct {
	abci.BaseApplication
	log     *slog.Logger
	engine  *engine.Client
	metrics *Metrics
	exit    func(status int)

	chain   *Chain
	decided *engine.Payload // between FinalizeBlock and Commit
	valid   common.Hash     // the last block that ProcessProposal found valid

	meet int64 // height at which a change takes force, and those who left are turned away; 0: none

	mtx   sync.Mutex      // guards what follows
	peers map[string]bool // node ids that may connect
	head  *types.Header   // EVM header of the last committed block; nil until Info
	ahead struct {        // the payload that was started after Commit
		height int64
		id     api.PayloadID
	}
}

// New makes an application over a geth; `peers` are the node ids that may connect until Meet has asked the chain.
func New(log *slog.Logger, e *engine.Client, peers []string, m *Metrics) *App {
	a := &App{log: log, engine: e, peers: map[string]bool{}, metrics: m, exit: os.Exit}
	for _, id := range peers {
		a.peers[id] = true
	}
	return a
}

// Attach gives the application its node, after the handshake and before consensus starts.
func (a *App) Attach(c *Chain) { a.chain = c }

// Info tells CometBFT what geth has. CometBFT asks once, in the handshake, and replays from there; anybody may ask later, over RPC.
func (a *App) Info(ctx context.Context, _ *abci.RequestInfo) (*abci.ResponseInfo, error) {
	head := a.getHead()
	if head == nil {
		err := a.retry(ctx, "start", startLimit, func(ctx context.Context) (err error) {
			if err = a.engine.Repair(ctx); err == nil {
				head, err = a.engine.Head(ctx)
			}
			return
		})
		if err != nil {
			return nil, fmt.Errorf("no answer from the execution client: %w", err)
		}
		a.setHead(head)
		a.log.Info("execution client", "head", head.Number, "hash", head.Hash())
	}
	r := &abci.ResponseInfo{AppVersion: 1, LastBlockHeight: head.Number.Int64()}
	if r.LastBlockHeight > 0 {
		r.LastBlockAppHash = head.Hash().Bytes()
	}
	return r, nil
}

// InitChain comes when geth has nothing but its genesis block, which must be the one that the network's genesis names.
func (a *App) InitChain(_ context.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	var state struct {
		Genesis common.Hash `json:"evm_genesis"`
	}
	if err := json.Unmarshal(req.AppStateBytes, &state); err != nil {
		return nil, fmt.Errorf("app_state of the genesis: %w", err)
	}
	head := a.getHead()
	if head.Number.Sign() != 0 || head.Hash() != state.Genesis || req.InitialHeight != 1 {
		return nil, fmt.Errorf("wrong genesis: the execution client is at block %d %s, and the network begins with %s", head.Number, head.Hash(), state.Genesis)
	}
	return &abci.ResponseInitChain{AppHash: state.Genesis.Bytes()}, nil
}

// Query answers CometBFT's question whether a peer may connect; it has no other use. The peer has proved its node id by then.
func (a *App) Query(_ context.Context, req *abci.RequestQuery) (*abci.ResponseQuery, error) {
	if id, ok := strings.CutPrefix(req.Path, "/p2p/filter/id/"); ok && !a.allowed(id) {
		a.metrics.peersRefused.Inc()
		a.log.Warn("peer refused", "id", id)
		return &abci.ResponseQuery{Code: 1, Log: "not a validator of this network"}, nil
	}
	return &abci.ResponseQuery{}, nil
}

// PrepareProposal takes the payload that geth has built. On failure it proposes nothing, which everyone refuses, and the next round has
// another proposer: an error would make CometBFT's consensus panic and leave a process that stands still.
func (a *App) PrepareProposal(ctx context.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	place := a.place(req.Height, req.ProposerAddress)
	id, started := a.takeAhead(req.Height)
	var tx []byte
	err := a.retry(ctx, "build", Patience, func(ctx context.Context) (err error) {
		attributes := rules.Attributes(place)
		if !started {
			if id, err = a.engine.Build(ctx, place.Parent.Hash(), attributes); err != nil {
				return err
			}
			time.Sleep(BuildTime)
		}
		started = false // a second attempt builds anew
		p, err := a.engine.GetPayload(ctx, id, attributes.BeaconRoot)
		if err != nil {
			return err
		}
		if err = rules.Check(p, place); err != nil {
			return err
		}
		if tx, err = p.Encode(); err == nil && int64(len(tx)) > req.MaxTxBytes {
			err = fmt.Errorf("the block has %d bytes and may have %d", len(tx), req.MaxTxBytes)
		}
		return err
	})
	if err != nil {
		a.metrics.turnsSkipped.Inc()
		a.log.Error("turn skipped", "height", req.Height, "err", err)
		return &abci.ResponsePrepareProposal{}, nil
	}
	txs := [][]byte{tx}
	if Lie != nil {
		txs = Lie(req.Height, txs)
	}
	return &abci.ResponsePrepareProposal{Txs: txs}, nil
}

// ProcessProposal votes for a block that is one strictly parsed payload, keeps the rules, and is valid for geth. A geth that does not
// answer in time means no vote, never a vote unseen.
func (a *App) ProcessProposal(ctx context.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	if rule, err := a.process(ctx, req); err != nil {
		a.metrics.proposalsRefused.WithLabelValues(rule).Inc()
		a.log.Warn("proposal refused", "height", req.Height, "proposer", fmt.Sprintf("%X", req.ProposerAddress), "rule", rule, "err", err)
		return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}, nil
	}
	return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}, nil
}

// process gives the reason to refuse, and the short name of the rule.
func (a *App) process(ctx context.Context, req *abci.RequestProcessProposal) (string, error) {
	p, err := decodeOnly(req.Txs)
	if err != nil {
		return "form", err
	}
	if err = rules.Check(p, a.place(req.Height, req.ProposerAddress)); err != nil {
		var violation *rules.Violation
		errors.As(err, &violation)
		return violation.Rule, err
	}
	Step("process: before newPayload", req.Height)
	err = a.retry(ctx, "process", Patience, func(ctx context.Context) error { return a.engine.NewPayload(ctx, p) })
	if errors.Is(err, engine.ErrInvalid) {
		return "execution", err
	}
	if err != nil {
		return "no-answer", err
	}
	a.valid = p.Block.Hash()
	Step("process: after newPayload", req.Height)
	return "", nil
}

// FinalizeBlock has geth store the decided block, without making it the head. It waits for geth as long as it takes.
func (a *App) FinalizeBlock(ctx context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	Step("finalize: before newPayload", req.Height)
	p, err := decodeOnly(req.Txs)
	if head := a.getHead(); err == nil && (p.Block.Number().Int64() != req.Height || p.Block.ParentHash() != head.Hash()) {
		err = fmt.Errorf("it is number %d on %s, and the head is %d %s", p.Block.Number(), p.Block.ParentHash(), head.Number, head.Hash())
	}
	if err == nil && p.Block.Hash() != a.valid { // else geth has it; should it have lost it since, Commit feeds it again
		err = a.retry(ctx, "finalize", 0, func(ctx context.Context) error { return a.engine.NewPayload(ctx, p) })
	}
	if err != nil {
		a.diverged("the block that more than 2/3 decided is not valid here", req.Height, err)
	}
	for _, m := range req.Misbehavior { // recorded in CometBFT's block for good; nothing follows by itself
		a.log.Error("validator signed two blocks of one height", "validator", fmt.Sprintf("%X", m.Validator.Address), "at", m.Height)
	}
	updates := a.updates(ctx, req.Height)
	a.decided = p
	Step("finalize: after newPayload", req.Height)
	return &abci.ResponseFinalizeBlock{TxResults: []*abci.ExecTxResult{{}}, AppHash: p.Block.Hash().Bytes(), ValidatorUpdates: updates}, nil
}

// updates are the changes of the validator set that the head, block height-1, made.
func (a *App) updates(ctx context.Context, height int64) (updates []abci.ValidatorUpdate) {
	var changes []engine.Change
	err := a.retry(ctx, "changes of the validators", 0, func(ctx context.Context) (err error) {
		changes, err = a.engine.Changes(ctx, a.getHead())
		return
	})
	if err != nil {
		a.diverged("the head's changes of the validators cannot be read", height, err)
	}
	for _, c := range changes { // at most one: CometBFT panics at a key that is named twice, or removed and unknown
		a.log.Info("validator set changes", "validator", fmt.Sprintf("%X", c.Key), "power", c.Power, "from", height+force-1)
		updates = append(updates, abci.Ed25519ValidatorUpdate(c.Key[:], c.Power))
	}
	return
}

// Commit moves geth's head to the decided block and sees that it moved. RetainHeight stays 0: CometBFT keeps all blocks, since they are the
// evidence and what a wiped geth is filled from.
func (a *App) Commit(ctx context.Context, _ *abci.RequestCommit) (*abci.ResponseCommit, error) {
	p := a.decided
	height := p.Block.Number().Int64()
	Step("commit: before forkchoiceUpdated", height)
	err := a.retry(ctx, "commit", 0, func(ctx context.Context) error {
		if err := a.engine.SetHead(ctx, p.Block.Hash()); err != nil {
			// geth may have lost the block since FinalizeBlock. For a block it knows, newPayload does nothing.
			if e := a.engine.NewPayload(ctx, p); e != nil {
				return e
			}
			return err
		}
		head, err := a.engine.Head(ctx)
		if err == nil && head.Hash() != p.Block.Hash() {
			err = engine.ErrBehind // it took the block for an old one
		}
		return err
	})
	if err != nil {
		a.diverged("a stored block is not valid any more", height, err)
	}
	Step("commit: after forkchoiceUpdated", height)
	a.setHead(p.Block.Header())
	a.decided = nil
	a.metrics.height.Set(float64(height))
	a.metrics.transactions.Add(float64(len(p.Block.Transactions())))
	a.log.Info("committed", "height", height, "hash", p.Block.Hash(), "transactions", len(p.Block.Transactions()), "gas", p.Block.GasUsed(), "bytes", p.Block.Size())
	if a.chain != nil {
		go a.startAhead(p.Block.Header())
		if types.BloomLookup(p.Block.Bloom(), engine.Validators) {
			a.meet = height + force
			go a.Meet(false)
		} else if height == a.meet {
			go a.Meet(true)
		} else if height%meetAgain == 0 {
			go a.Meet(false)
		}
	}
	return &abci.ResponseCommit{}, nil
}

// Meet reads from the contract who the validators are, lets them in, and keeps connections to them. Those who are not among them any more are
// turned away if `part`: a validator that leaves takes part until the change is in force. Nothing of it can stop consensus.
func (a *App) Meet(part bool) {
	var operators []engine.Operator
	err := a.retry(context.Background(), "peers", startLimit, func(ctx context.Context) (err error) {
		operators, err = a.engine.Operators(ctx)
		return
	})
	if err == nil {
		a.mtx.Lock()
		peers := map[string]bool{}
		if !part {
			maps.Copy(peers, a.peers)
		}
		for _, o := range operators {
			peers[o.NodeID] = true
		}
		a.peers = peers
		a.mtx.Unlock()
		err = a.chain.Meet(operators, a.allowed)
	}
	if err != nil {
		a.log.Error("the validators' addresses cannot be read, or used", "err", err)
	}
}

func (a *App) allowed(id string) bool {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	return a.peers[id]
}

// startAhead begins building on a new head if the next turn is ours, so that transactions have the whole pause between blocks to get in.
func (a *App) startAhead(head *types.Header) {
	height := head.Number.Int64() + 1
	s := a.chain.State()
	if s.LastBlockHeight != height-1 || !bytes.Equal(s.Validators.GetProposer().Address, a.chain.Self) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	id, err := a.engine.Build(ctx, head.Hash(), rules.Attributes(a.placeOn(head, height, a.chain.Self)))
	if err != nil {
		a.log.Warn("not started ahead", "height", height, "err", err) // PrepareProposal starts it then
		return
	}
	a.mtx.Lock()
	a.ahead.height, a.ahead.id = height, id
	a.mtx.Unlock()
}

func (a *App) takeAhead(height int64) (api.PayloadID, bool) {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	found := a.ahead.height == height
	a.ahead.height = 0
	return a.ahead.id, found
}

// retry calls f until it succeeds, says that the block is invalid, breaks a rule, or the limit is over (0: none).
func (a *App) retry(ctx context.Context, what string, limit time.Duration, f func(context.Context) error) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	for n := 0; ; n++ {
		err := f(ctx)
		var violation *rules.Violation
		if err == nil || errors.Is(err, engine.ErrInvalid) || errors.As(err, &violation) {
			return err
		}
		a.metrics.engineRetries.Inc()
		if n%retryLog == 0 {
			a.log.Warn("execution client", "during", what, "attempt", n+1, "err", err)
		}
		if errors.Is(err, engine.ErrBehind) && a.chain != nil {
			if err := a.catchUp(ctx); err != nil {
				a.log.Warn("execution client cannot be brought up to date", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}

// catchUp feeds a geth that was restarted and has lost blocks those that it had committed, from CometBFT's store. (During the handshake
// CometBFT does that itself, from what Info says.)
func (a *App) catchUp(ctx context.Context) error {
	if err := a.engine.Repair(ctx); err != nil {
		return err
	}
	want := a.getHead()
	has, err := a.engine.Head(ctx)
	if err != nil || has.Hash() == want.Hash() {
		return err
	}
	a.log.Warn("execution client is behind", "has", has.Number, "want", want.Number)
	for n := has.Number.Int64() + 1; n <= want.Number.Int64(); n++ {
		b := a.chain.Blocks.LoadBlock(n)
		if b == nil {
			return fmt.Errorf("block %d is not in the store", n)
		}
		p, err := engine.Decode(b.Txs[0])
		if err != nil {
			return err
		}
		if err = a.engine.NewPayload(ctx, p); err != nil {
			return err
		}
		if err = a.engine.SetHead(ctx, p.Block.Hash()); err != nil {
			return err
		}
		a.metrics.blocksRefed.Inc()
	}
	return nil
}

func (a *App) place(height int64, proposer []byte) rules.Place {
	return a.placeOn(a.getHead(), height, proposer)
}

func (a *App) placeOn(parent *types.Header, height int64, proposer []byte) rules.Place {
	place := rules.Place{Parent: parent, Height: height, Proposer: proposer}
	if m := a.chain.Blocks.LoadBlockMeta(height - 1); m != nil {
		place.Previous = rules.Previous{Hash: common.BytesToHash(m.BlockID.Hash), Time: m.Header.Time}
	}
	return place
}

// diverged ends a validator that cannot follow the majority: going on would fork or hide a fault of this machine.
func (a *App) diverged(what string, height int64, err error) {
	a.log.Error("stopped: "+what, "height", height, "err", err)
	a.exit(ExitDiverged)
}

func (a *App) getHead() *types.Header {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	return a.head
}

func (a *App) setHead(h *types.Header) {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	a.head = h
}

func decodeOnly(txs [][]byte) (*engine.Payload, error) {
	if len(txs) != 1 {
		return nil, fmt.Errorf("%d transactions instead of one", len(txs))
	}
	return engine.Decode(txs[0])
}
