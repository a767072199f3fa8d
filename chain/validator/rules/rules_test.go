// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"ballotboard/validator/engine"
)

var (
	parent = &types.Header{Number: big.NewInt(6), Time: 1000, GasLimit: 30_000_000}
	place  = Place{
		Parent: parent, Height: 7, Proposer: []byte("twenty-byte address!"),
		Previous: Previous{common.HexToHash("0xaa"), time.Unix(1005, 999)},
	}
)

// valid is a block that keeps every rule, after `change`.
func valid(change func(*types.Header, *types.Body)) *engine.Payload {
	a := Attributes(place)
	zero := uint64(0)
	h := &types.Header{
		Number: big.NewInt(7), ParentHash: parent.Hash(), Time: a.Timestamp, MixDigest: a.Random, Coinbase: a.SuggestedFeeRecipient,
		ParentBeaconRoot: a.BeaconRoot, GasLimit: parent.GasLimit, BlobGasUsed: &zero, ExcessBlobGas: &zero, BaseFee: new(big.Int),
	}
	body := &types.Body{Withdrawals: []*types.Withdrawal{}}
	change(h, body)
	return &engine.Payload{Block: types.NewBlockWithHeader(h).WithBody(*body)}
}

func TestABlockThatKeepsEveryRulePasses(t *testing.T) {
	if err := Check(valid(func(*types.Header, *types.Body) {}), place); err != nil {
		t.Fatal(err)
	}
}

func TestEachRuleIsNamedByTheProposalThatBreaksIt(t *testing.T) {
	used := uint64(131072)
	for rule, changes := range map[string][]func(*types.Header, *types.Body){
		"number": {
			func(h *types.Header, _ *types.Body) { h.Number = big.NewInt(8) },
			func(h *types.Header, _ *types.Body) {
				h.Number = new(big.Int).Add(big.NewInt(7), new(big.Int).Lsh(common.Big1, 64))
			},
		},
		"parent": {func(h *types.Header, _ *types.Body) { h.ParentHash[31] ^= 1 }},
		"time": {
			func(h *types.Header, _ *types.Body) { h.Time++ },
			func(h *types.Header, _ *types.Body) { h.Time-- },
		},
		"prevrandao":  {func(h *types.Header, _ *types.Body) { h.MixDigest[0] ^= 1 }},
		"coinbase":    {func(h *types.Header, _ *types.Body) { h.Coinbase[0] ^= 1 }},
		"beacon-root": {func(h *types.Header, _ *types.Body) { h.ParentBeaconRoot = &common.Hash{} }},
		"gas-limit":   {func(h *types.Header, _ *types.Body) { h.GasLimit += h.GasLimit/1024 - 1 }},
		"withdrawals": {func(_ *types.Header, b *types.Body) { b.Withdrawals = []*types.Withdrawal{{Amount: 1}} }},
		"blobs":       {func(h *types.Header, _ *types.Body) { h.BlobGasUsed = &used }},
	} {
		for i, change := range changes {
			var v *Violation
			if err := Check(valid(change), place); !errors.As(err, &v) || v.Rule != rule {
				t.Errorf("%s, case %d: %v", rule, i, err)
			}
		}
	}
}

func TestTimeIsThatOfThePreviousBlockAndAlwaysGrows(t *testing.T) {
	for _, c := range []struct{ parent, previous, want uint64 }{
		{1000, 1005, 1005}, // the clock is ahead of the parent
		{1000, 1001, 1001},
		{1000, 1000, 1001}, // two blocks in a second
		{1000, 990, 1001},
		{1000, 0, 1001}, // height 1
	} {
		p := place
		p.Parent = &types.Header{Number: big.NewInt(6), Time: c.parent}
		p.Previous.Time = time.Unix(int64(c.previous), 0)
		if got := Attributes(p).Timestamp; got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	p := place
	p.Previous = Previous{} // as at height 1: the zero time lies long before 1970
	if got := Attributes(p).Timestamp; got != parent.Time+1 {
		t.Errorf("without a previous block: %d", got)
	}
}

func TestAttributesDependOnEveryPartOfThePlace(t *testing.T) {
	want := Attributes(place)
	other := place
	other.Height++
	if Attributes(other).Random == want.Random {
		t.Error("prevRandao does not depend on the height")
	}
	other = place
	other.Previous.Hash[0] ^= 1
	if a := Attributes(other); a.Random == want.Random || *a.BeaconRoot == *want.BeaconRoot {
		t.Error("prevRandao and beacon root do not depend on the previous block")
	}
	other = place
	other.Proposer = []byte("another twenty bytes")
	if a := Attributes(other); a.SuggestedFeeRecipient == want.SuggestedFeeRecipient || a.Timestamp != want.Timestamp {
		t.Error("the coinbase is not the proposer, or more than the coinbase is")
	}
}
