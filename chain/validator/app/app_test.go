// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/state"
	comet "github.com/cometbft/cometbft/types"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ballotboard/validator/engine"
	"ballotboard/validator/internal/gethtest"
)

// world is an application over a real geth, with CometBFT's part played by hand.
type world struct {
	t      *testing.T
	geth   *gethtest.Geth
	app    *App
	blocks map[int64]*comet.Block // by height: CometBFT's store
	self   []byte
	sender *ecdsa.PrivateKey
	exits  []int

	updates []abci.ValidatorUpdate // of the last block that was decided
	mtx     sync.Mutex
	met     []engine.Operator // of the last Meet
}

func (w *world) LoadBlock(height int64) *comet.Block { return w.blocks[height] }

func (w *world) LoadBlockMeta(height int64) *comet.BlockMeta {
	if b := w.blocks[height]; b != nil {
		return &comet.BlockMeta{BlockID: comet.BlockID{Hash: crypto.Keccak256([]byte(fmt.Sprint(height)))}, Header: b.Header}
	}
	return nil
}

func newWorld(t *testing.T) *world {
	sender, _ := crypto.HexToECDSA(strings.Repeat("11", 32))
	w := &world{t: t, geth: gethtest.New(t, crypto.PubkeyToAddress(sender.PublicKey)), blocks: map[int64]*comet.Block{}, sender: sender}
	w.self = ed25519.GenPrivKeyFromSecret([]byte("self")).PubKey().Address()
	w.restart()
	return w
}

// restart is a new process: a new application over the same geth and the same blocks.
func (w *world) restart() {
	metrics := NewMetrics(prometheus.NewRegistry())
	client, err := engine.Dial(w.geth.URL(), w.geth.IPC(), gethtest.Secret, metrics.ObserveEngine)
	if err != nil {
		w.t.Fatal(err)
	}
	w.app = New(slog.New(slog.NewTextHandler(io.Discard, nil)), client, []string{"friend"}, metrics)
	w.app.exit = func(status int) { w.exits = append(w.exits, status); panic("exit") }
	w.app.Attach(&Chain{
		Blocks: w, Self: w.self, State: func() state.State { return state.State{} },
		Meet: func(operators []engine.Operator, _ func(string) bool) error {
			w.mtx.Lock()
			defer w.mtx.Unlock()
			w.met = operators
			return nil
		},
	})
	if _, err := w.app.Info(context.Background(), nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) height() int64 { return w.app.getHead().Number.Int64() + 1 }

// propose gives a proposal for the next height.
func (w *world) propose() [][]byte {
	w.t.Helper()
	r, err := w.app.PrepareProposal(context.Background(), &abci.RequestPrepareProposal{Height: w.height(), ProposerAddress: w.self, MaxTxBytes: 10 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Txs
}

func (w *world) accepts(txs [][]byte) bool {
	w.t.Helper()
	r, err := w.app.ProcessProposal(context.Background(), &abci.RequestProcessProposal{Height: w.height(), ProposerAddress: w.self, Txs: txs})
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Status == abci.ResponseProcessProposal_ACCEPT
}

// decide finalizes and commits a block as CometBFT does, and gives the app hash.
func (w *world) decide(txs [][]byte) common.Hash {
	w.t.Helper()
	h := w.height()
	b := &comet.Block{Header: comet.Header{Height: h, Time: time.Now()}}
	for _, tx := range txs {
		b.Txs = append(b.Txs, tx)
	}
	w.blocks[h] = b
	r, err := w.app.FinalizeBlock(context.Background(), &abci.RequestFinalizeBlock{Height: h, Txs: txs})
	if err != nil {
		w.t.Fatal(err)
	}
	w.updates = r.ValidatorUpdates
	if _, err := w.app.Commit(context.Background(), nil); err != nil {
		w.t.Fatal(err)
	}
	return common.BytesToHash(r.AppHash)
}

// send puts a transaction into geth's pool and waits until it is there.
func (w *world) send(nonce uint64) { w.t.Helper(); w.call(nonce, common.Address{1}, nil, 21000) }

func (w *world) call(nonce uint64, to common.Address, data []byte, gas uint64) {
	w.t.Helper()
	tx := types.MustSignNewTx(w.sender, types.LatestSignerForChainID(big.NewInt(gethtest.ChainID)), &types.DynamicFeeTx{
		ChainID: big.NewInt(gethtest.ChainID), Nonce: nonce, To: &to, Data: data, Gas: gas, GasTipCap: common.Big1, GasFeeCap: big.NewInt(1e9),
	})
	raw, _ := tx.MarshalBinary()
	var hash common.Hash
	w.geth.Call(w.t, &hash, "eth_sendRawTransaction", hexutil.Encode(raw))
}

func TestTheAppHashIsTheHashOfTheExecutedBlock(t *testing.T) {
	w := newWorld(t)
	r, err := w.app.InitChain(context.Background(), &abci.RequestInitChain{InitialHeight: 1, AppStateBytes: appState(w.geth.Genesis)})
	if err != nil || !bytes.Equal(r.AppHash, w.geth.Genesis[:]) {
		t.Fatalf("%x, %v", r.GetAppHash(), err)
	}
	w.send(0)
	for number := range int64(3) {
		txs := w.propose()
		if !w.accepts(txs) {
			t.Fatal("an honest proposal is refused")
		}
		if before := w.geth.Header(t, "latest"); before.Number.Int64() != number {
			t.Fatalf("the head moved to %d before Commit", before.Number)
		}
		hash := w.decide(txs)
		for _, tag := range []string{"latest", "safe", "finalized"} {
			if h := w.geth.Header(t, tag); h.Hash() != hash || h.Number.Int64() != number+1 {
				t.Fatalf("%s is %d %s and the app hash %s", tag, h.Number, h.Hash(), hash)
			}
		}
	}
	info, _ := w.app.Info(context.Background(), nil)
	if info.LastBlockHeight != 3 || !bytes.Equal(info.LastBlockAppHash, w.geth.Header(t, "latest").Hash().Bytes()) {
		t.Fatalf("%+v", info)
	}
	if first := w.geth.Header(t, "0x1"); first.GasUsed != 21000 {
		t.Fatalf("the transaction is not in the first block: %d gas", first.GasUsed)
	}
}

func appState(genesis common.Hash) []byte {
	raw, _ := json.Marshal(map[string]any{"evm_genesis": genesis})
	return raw
}

func TestAnotherGenesisIsRefused(t *testing.T) {
	w := newWorld(t)
	for name, req := range map[string]*abci.RequestInitChain{
		"another block": {InitialHeight: 1, AppStateBytes: appState(common.Hash{1})},
		"no block":      {InitialHeight: 1, AppStateBytes: []byte("{}")},
		"no JSON":       {InitialHeight: 1, AppStateBytes: nil},
		"not from 1":    {InitialHeight: 5, AppStateBytes: appState(w.geth.Genesis)},
	} {
		if _, err := w.app.InitChain(context.Background(), req); err == nil {
			t.Error(name)
		}
	}
	w.decide(w.propose())
	w.restart()
	if _, err := w.app.InitChain(context.Background(), &abci.RequestInitChain{InitialHeight: 1, AppStateBytes: appState(w.geth.Genesis)}); err == nil {
		t.Error("a geth that has blocks already")
	}
}

func TestEachKindOfWrongProposalIsRefusedByName(t *testing.T) {
	w := newWorld(t)
	w.decide(w.propose())
	w.send(0)
	good := w.propose()
	forge := func(change func(*types.Header)) [][]byte {
		p, err := engine.Decode(good[0])
		if err != nil {
			t.Fatal(err)
		}
		h := p.Block.Header()
		change(h)
		raw, err := (&engine.Payload{Block: types.NewBlockWithHeader(h).WithBody(*p.Block.Body()), Requests: p.Requests}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{raw}
	}
	forgeRequests := func(requests [][]byte) [][]byte {
		p, _ := engine.Decode(good[0])
		raw, _ := (&engine.Payload{Block: p.Block, Requests: requests}).Encode()
		return [][]byte{raw}
	}
	for _, c := range []struct {
		name, rule string
		txs        [][]byte
	}{
		{"empty", "form", nil},
		{"two payloads", "form", [][]byte{good[0], good[0]}},
		{"trailing byte", "form", [][]byte{append(bytes.Clone(good[0]), 0)}},
		{"not RLP", "form", [][]byte{[]byte("hello")}},
		{"number", "number", forge(func(h *types.Header) { h.Number = big.NewInt(9) })},
		{"parent", "parent", forge(func(h *types.Header) { h.ParentHash[0] ^= 1 })},
		{"time ahead", "time", forge(func(h *types.Header) { h.Time++ })},
		{"prevrandao", "prevrandao", forge(func(h *types.Header) { h.MixDigest[0] ^= 1 })},
		{"coinbase", "coinbase", forge(func(h *types.Header) { h.Coinbase[0] ^= 1 })},
		{"beacon root", "beacon-root", forge(func(h *types.Header) { h.ParentBeaconRoot = &common.Hash{7} })},
		{"gas limit", "gas-limit", forge(func(h *types.Header) { h.GasLimit++ })},
		{"state root", "execution", forge(func(h *types.Header) { h.Root[0] ^= 1 })},
		{"receipts root", "execution", forge(func(h *types.Header) { h.ReceiptHash[0] ^= 1 })},
		{"transactions root", "execution", forge(func(h *types.Header) { h.TxHash[0] ^= 1 })},
		{"gas used", "execution", forge(func(h *types.Header) { h.GasUsed++ })},
		{"base fee", "execution", forge(func(h *types.Header) { h.BaseFee = big.NewInt(1) })},
		{"requests hash", "execution", forge(func(h *types.Header) { h.RequestsHash = &common.Hash{1} })},
		{"invented request", "execution", forgeRequests([][]byte{{1, 2, 3}})},
		{"extra data of 33 bytes", "execution", forge(func(h *types.Header) { h.Extra = make([]byte, 33) })},
		{"dropped transactions", "execution", func() [][]byte {
			p, _ := engine.Decode(good[0])
			body := types.Body{Withdrawals: []*types.Withdrawal{}}
			raw, _ := (&engine.Payload{Block: types.NewBlockWithHeader(p.Block.Header()).WithBody(body), Requests: p.Requests}).Encode()
			return [][]byte{raw}
		}()},
	} {
		before := testutil.ToFloat64(w.app.metrics.proposalsRefused.WithLabelValues(c.rule))
		if w.accepts(c.txs) {
			t.Errorf("%s: accepted", c.name)
		} else if testutil.ToFloat64(w.app.metrics.proposalsRefused.WithLabelValues(c.rule)) != before+1 {
			t.Errorf("%s: refused for another reason than %s", c.name, c.rule)
		}
	}
	if !w.accepts(good) {
		t.Error("the honest proposal is refused")
	}
}

func TestWithoutGethAValidatorProposesNothingAndVotesForNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for Patience, twice")
	}
	w := newWorld(t)
	good := w.propose()
	w.geth.Kill()
	if w.accepts(good) {
		t.Error("voted for a block that nobody executed")
	}
	if txs := w.propose(); len(txs) != 0 {
		t.Errorf("proposed %d transactions", len(txs))
	}
	w.geth.Start(t)
	if !w.accepts(good) || len(w.propose()) != 1 {
		t.Error("does not come back")
	}
}

func TestAGethThatLostEverythingIsFilledAgainFromTheStore(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.decide(w.propose())
	}
	want := w.geth.Header(t, "latest")
	txs := w.propose()
	w.geth.Kill()
	w.geth.Wipe(t)
	w.geth.Start(t)
	hash := w.decide(txs)
	if h := w.geth.Header(t, "0x3"); h.Hash() != want.Hash() {
		t.Errorf("block 3 is %s and was %s", h.Hash(), want.Hash())
	}
	if h := w.geth.Header(t, "latest"); h.Hash() != hash || h.Number.Int64() != 4 {
		t.Errorf("the head is %d", h.Number)
	}
	if refed := testutil.ToFloat64(w.app.metrics.blocksRefed); refed != 3 {
		t.Errorf("%v blocks were given again", refed)
	}
}

func TestADecidedBlockThatIsInvalidHereEndsTheProcess(t *testing.T) {
	w := newWorld(t)
	p, _ := engine.Decode(w.propose()[0])
	h := p.Block.Header()
	h.Root[0] ^= 1
	raw, _ := (&engine.Payload{Block: types.NewBlockWithHeader(h).WithBody(*p.Block.Body()), Requests: p.Requests}).Encode()
	defer func() {
		if recover() == nil || len(w.exits) != 1 || w.exits[0] != ExitDiverged {
			t.Errorf("exits: %v", w.exits)
		}
		if head := w.geth.Header(t, "latest"); head.Number.Sign() != 0 {
			t.Errorf("the head moved to %d", head.Number)
		}
	}()
	w.decide([][]byte{raw})
}

// vote is the input of a vote on the validators: contracts/IValidators.sol.
func vote(t *testing.T, key byte, power uint64, account common.Address, operator string) []byte {
	t.Helper()
	kind := func(name string) abi.Argument { k, _ := abi.NewType(name, "", nil); return abi.Argument{Type: k} }
	data, err := abi.Arguments{kind("bytes32"), kind("uint64"), kind("address"), kind("bytes")}.Pack([32]byte{key}, power, account, []byte(operator))
	if err != nil {
		t.Fatal(err)
	}
	return append(crypto.Keccak256([]byte("vote(bytes32,uint64,address,bytes)"))[:4], data...)
}

func (w *world) finalize(txs [][]byte) []abci.ValidatorUpdate {
	w.t.Helper()
	r, err := w.app.FinalizeBlock(context.Background(), &abci.RequestFinalizeBlock{Height: w.height(), Txs: txs})
	if err != nil {
		w.t.Fatal(err)
	}
	return r.ValidatorUpdates
}

func TestAChangeOfTheValidatorsIsToldOneBlockAfterItWasMadeAndAgainAtEveryReplay(t *testing.T) {
	w := newWorld(t)
	for w.height() <= 3 { // no change is made in the first blocks
		if w.decide(w.propose()); len(w.updates) != 0 {
			t.Fatal(w.updates)
		}
	}
	w.call(0, engine.Validators, vote(t, 7, 1, common.Address{7}, `{"node_id": "newcomer"}`), 1_000_000)
	made := w.propose()
	if w.decide(made); len(w.updates) != 0 {
		t.Fatalf("told with the block that makes it: %v", w.updates)
	}
	want := []abci.ValidatorUpdate{abci.Ed25519ValidatorUpdate(append([]byte{7}, make([]byte, 31)...), 1)}
	next := w.propose()
	tell := func(when string) {
		t.Helper()
		if got := w.finalize(next); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %v", when, got)
		}
	}
	tell("at once")
	w.restart()
	tell("after the validator was restarted")
	w.geth.Kill()
	w.geth.Start(t)
	tell("after geth was")
	w.geth.Kill()
	w.geth.Wipe(t)
	w.geth.Start(t)
	tell("after geth's data were lost")
	w.decide(next)
	if !reflect.DeepEqual(w.updates, want) {
		t.Fatal(w.updates)
	}
	if w.decide(w.propose()); len(w.updates) != 0 {
		t.Fatalf("told twice: %v", w.updates)
	}
}

func TestValidatorsThatJoinAreLetInAndThoseThatLeftAreNotOnceItIsInForce(t *testing.T) {
	w := newWorld(t)
	lets := func(id string) bool {
		r, _ := w.app.Query(context.Background(), &abci.RequestQuery{Path: "/p2p/filter/id/" + id})
		return r.Code == 0
	}
	for w.height() <= 3 {
		w.decide(w.propose())
	}
	w.call(0, engine.Validators, vote(t, 7, 1, common.Address{7}, `{"node_id": "newcomer", "host": "h", "consensus_port": 5}`), 1_000_000)
	before := w.height()
	w.decide(w.propose())
	gethtest.Until(t, "the newcomer to be let in", func() bool { return lets("newcomer") })
	if !lets("friend") {
		t.Error("who leaves is turned away before the change is in force")
	}
	for w.height() <= before+force {
		w.decide(w.propose())
	}
	gethtest.Until(t, "who left to be turned away", func() bool { return !lets("friend") })
	if !lets("newcomer") {
		t.Error("the newcomer is turned away")
	}
	w.mtx.Lock()
	defer w.mtx.Unlock()
	if len(w.met) == 0 || w.met[0].Peer() != "newcomer@h:5" {
		t.Errorf("%v", w.met)
	}
}

func TestOnlyListedPeersMayConnect(t *testing.T) {
	metrics := NewMetrics(prometheus.NewRegistry())
	a := New(slog.New(slog.NewTextHandler(os.Stderr, nil)), nil, []string{"friend"}, metrics)
	for path, code := range map[string]uint32{"/p2p/filter/id/friend": 0, "/p2p/filter/id/stranger": 1, "/p2p/filter/id/": 1, "/p2p/filter/addr/1.2.3.4:5": 0} {
		if r, _ := a.Query(context.Background(), &abci.RequestQuery{Path: path}); r.Code != code {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
	if refused := testutil.ToFloat64(metrics.peersRefused); refused != 2 {
		t.Errorf("%v refusals were counted", refused)
	}
}
