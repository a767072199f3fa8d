// SPDX-License-Identifier: Apache-2.0

// Package engine speaks to an execution client (geth) through the Engine API, and defines what one CometBFT block carries.
package engine

import (
	"bytes"
	"errors"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"
)

// Payload is the only transaction of a CometBFT block: RLP([EVM block, EIP-7685 requests]).
type Payload struct {
	Block    *types.Block
	Requests [][]byte
}

// Encode gives the transaction's bytes.
func (p *Payload) Encode() ([]byte, error) { return rlp.EncodeToBytes(p) }

// Decode is the strict inverse of Encode: whatever does not encode to the same bytes again is refused, and so is a block that lacks a
// field of the Osaka rules. A block accepted here may still be invalid in every other way.
func Decode(b []byte) (*Payload, error) {
	p := new(Payload)
	if err := rlp.DecodeBytes(b, p); err != nil {
		return nil, err
	}
	h := p.Block.Header()
	if h.BaseFee == nil || h.WithdrawalsHash == nil || h.BlobGasUsed == nil || h.ExcessBlobGas == nil ||
		h.ParentBeaconRoot == nil || h.RequestsHash == nil || p.Block.Withdrawals() == nil {
		return nil, errors.New("not a block of the Osaka rules")
	}
	// The header commits to the (empty) list of uncles, and the Engine API does not transport one: a list in the body would be bytes
	// that nothing signs for.
	if len(p.Block.Uncles()) != 0 {
		return nil, errors.New("the block has uncles")
	}
	again, err := p.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("not the canonical encoding")
	}
	return p, nil
}
