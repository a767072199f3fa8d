// SPDX-License-Identifier: Apache-2.0

// Package rules says which EVM block may follow which. Everything here is a pure function of the chain, so every validator comes to
// the same answer in every round, whoever proposes.
package rules

import (
	"encoding/binary"
	"fmt"
	"time"

	api "github.com/ethereum/go-ethereum/beacon/engine"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"ballotboard/validator/engine"
)

// Place is where a block goes: on top of EVM block Parent, at Height, by Proposer (20 bytes), after the CometBFT block Previous,
// which is zero at height 1.
type Place struct {
	Parent   *types.Header
	Height   int64
	Proposer []byte
	Previous Previous
}

// Previous is the hash and time of a CometBFT block.
type Previous struct {
	Hash common.Hash
	Time time.Time
}

// Attributes are the fields of the EVM block that follow from its place.
//
//	time          that of the previous CometBFT block (BFT time, the weighted median of the signers' clocks), in whole seconds, or one
//	              more than the parent's if that is later: known as soon as the previous block is decided, so building can start then
//	prevRandao    keccak-256 of "prevrandao", the previous CometBFT block's hash and the height: it holds no entropy, contracts must
//	              not use it as if it did
//	beacon root   the previous CometBFT block's hash, readable by contracts (EIP-4788)
//	coinbase      the proposer's CometBFT address
func Attributes(p Place) *api.PayloadAttributes {
	t := p.Parent.Time + 1
	if u := p.Previous.Time.Unix(); u > 0 && uint64(u) > t {
		t = uint64(u)
	}
	var height [8]byte
	binary.BigEndian.PutUint64(height[:], uint64(p.Height))
	root := p.Previous.Hash
	return &api.PayloadAttributes{
		Timestamp:             t,
		Random:                crypto.Keccak256Hash([]byte("prevrandao"), root[:], height[:]),
		SuggestedFeeRecipient: common.BytesToAddress(p.Proposer),
		Withdrawals:           []*types.Withdrawal{},
		BeaconRoot:            &root,
	}
}

// Violation is a rule that a proposal breaks. Rule is a short constant name, the label of the metric of refused proposals.
type Violation struct{ Rule, Detail string }

func (v *Violation) Error() string { return v.Rule + ": " + v.Detail }

// Check applies the rules that the execution client cannot know, since they are about consensus. What it does not look at (execution,
// roots, gas used, base fee, hashes, signatures) the execution client does. Gives the first Violation, or nil.
func Check(b *engine.Payload, p Place) error {
	h, want := b.Block.Header(), Attributes(p)
	breaks := func(rule string, is, must any) error {
		return &Violation{rule, fmt.Sprintf("is %v, must be %v", is, must)}
	}
	switch {
	case !h.Number.IsInt64() || h.Number.Int64() != p.Height:
		return breaks("number", h.Number, p.Height)
	case h.ParentHash != p.Parent.Hash():
		return breaks("parent", h.ParentHash, p.Parent.Hash())
	case h.Time != want.Timestamp:
		return breaks("time", h.Time, want.Timestamp)
	case h.MixDigest != want.Random:
		return breaks("prevrandao", h.MixDigest, want.Random)
	case h.Coinbase != want.SuggestedFeeRecipient:
		return breaks("coinbase", h.Coinbase, want.SuggestedFeeRecipient)
	case *h.ParentBeaconRoot != *want.BeaconRoot:
		return breaks("beacon-root", *h.ParentBeaconRoot, *want.BeaconRoot)
	case h.GasLimit != p.Parent.GasLimit: // geth alone would let a proposer move it by 1/1024 a block
		return breaks("gas-limit", h.GasLimit, p.Parent.GasLimit)
	case len(b.Block.Withdrawals()) != 0: // they would make money
		return breaks("withdrawals", len(b.Block.Withdrawals()), 0)
	case *h.BlobGasUsed != 0: // nobody would keep the blobs
		return breaks("blobs", *h.BlobGasUsed, 0)
	}
	return nil
}
