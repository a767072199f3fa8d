//go:build faults

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"time"

	proto "github.com/cometbft/cometbft/proto/tendermint/types"
	comet "github.com/cometbft/cometbft/types"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/trie"

	"ballotboard/validator/app"
	"ballotboard/validator/engine"
)

// The test build (`make .bin/validator-faults`): a validator that is wrong where it is told to be.
func init() {
	app.Lie = liar()
	offset, err := time.ParseDuration(cmp.Or(os.Getenv("VALIDATOR_CLOCK"), "0s"))
	if err != nil {
		panic(err)
	}
	signer = func(pv comet.PrivValidator) comet.PrivValidator { return skewed{pv, offset} }
	relays := strings.Fields(os.Getenv("VALIDATOR_RELAYS")) // like "26656=31001 26657=31002": where the way to that port begins
	route = func(address string) string {
		for _, relay := range relays {
			port, through, _ := strings.Cut(relay, "=")
			if host, found := strings.CutSuffix(address, ":"+port); found {
				return host + ":" + through
			}
		}
		return address
	}
}

// skewed signs with a clock that is wrong by VALIDATOR_CLOCK, like -10m: the times in votes, of which block time is the median, and in
// proposals are all that the others see of a validator's clock.
type skewed struct {
	comet.PrivValidator
	offset time.Duration
}

func (s skewed) SignVote(chain string, vote *proto.Vote) error {
	vote.Timestamp = vote.Timestamp.Add(s.offset)
	return s.PrivValidator.SignVote(chain, vote)
}

func (s skewed) SignProposal(chain string, proposal *proto.Proposal) error {
	proposal.Timestamp = proposal.Timestamp.Add(s.offset)
	return s.PrivValidator.SignProposal(chain, proposal)
}

// liar proposes what is wrong: VALIDATOR_LIES names the kinds, separated by commas, one for each of its turns; in a turn without one, and after
// all, it is honest. Each is what a validator that keeps all the other rules could do.
func liar() func(height int64, txs [][]byte) [][]byte {
	lies := strings.Split(os.Getenv("VALIDATOR_LIES"), ",")
	return func(height int64, txs [][]byte) [][]byte {
		if len(lies) == 0 {
			return txs
		}
		kind := lies[0]
		if lies = lies[1:]; kind == "" {
			return txs
		}
		p, err := engine.Decode(txs[0])
		if err != nil {
			panic(err)
		}
		slog.New(slog.NewJSONHandler(os.Stdout, nil)).Info("lies", "kind", kind, "height", height)
		header, body := p.Block.Header(), p.Block.Body()
		switch kind {
		case "empty":
			return nil
		case "twice":
			return [][]byte{txs[0], txs[0]}
		case "tail":
			return [][]byte{append(bytes.Clone(txs[0]), 0)}
		case "number":
			header.Number = new(big.Int).Add(header.Number, common.Big1)
		case "parent":
			header.ParentHash[0] ^= 1
		case "time":
			header.Time += 600
		case "prevrandao":
			header.MixDigest[0] ^= 1
		case "coinbase":
			header.Coinbase[0] ^= 1
		case "beacon-root":
			header.ParentBeaconRoot = &common.Hash{7}
		case "gas-limit":
			header.GasLimit++
		case "money": // a withdrawal to itself
			withdrawals := types.Withdrawals{{Index: 1, Address: header.Coinbase, Amount: 1 << 40}}
			hash := types.DeriveSha(withdrawals, trie.NewStackTrie(nil))
			body.Withdrawals, header.WithdrawalsHash = withdrawals, &hash
		case "state":
			header.Root[0] ^= 1
		default:
			panic(fmt.Sprintf("no lie is called %q", kind))
		}
		raw, err := (&engine.Payload{Block: types.NewBlockWithHeader(header).WithBody(*body), Requests: p.Requests}).Encode()
		if err != nil {
			panic(err)
		}
		return [][]byte{raw}
	}
}
