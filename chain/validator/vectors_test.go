// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/proto/tendermint/version"
	comet "github.com/cometbft/cometbft/types"
)

// The verifier of evidence is Python (chain/comet.py). These cases are what CometBFT itself makes and says of them; tests/chain reads the file.
const vectors = "../../tests/chain/data/comet_vectors.json"

var update = flag.Bool("update", false, "write "+vectors+" again")

type object = map[string]any

func TestTheVectorsForTheVerifierAreWhatCometBFTSays(t *testing.T) {
	var cases []object
	for number, c := range []struct {
		name   string
		powers []int64
		signs  []int // by place in the ordered set; -1-i: validator i votes for nil
		round  int32
		empty  bool // no hashes in the header, as far as CometBFT allows
	}{
		{"four of four", []int64{1, 1, 1, 1}, []int{0, 1, 2, 3}, 0, false},
		{"three of four", []int64{1, 1, 1, 1}, []int{0, 2, 3}, 1, false},
		{"two of four", []int64{1, 1, 1, 1}, []int{0, 1}, 0, false},
		{"three, of which one for nil", []int64{1, 1, 1, 1}, []int{0, 1, -3}, 0, false},
		{"all, of which one for nil", []int64{1, 1, 1, 1}, []int{0, 1, 2, -4}, 7, false},
		{"exactly two thirds", []int64{1, 1, 1}, []int{0, 1}, 0, false},
		{"three of three", []int64{1, 1, 1}, []int{0, 1, 2}, 0, false},
		{"five of seven", []int64{1, 1, 1, 1, 1, 1, 1}, []int{0, 1, 2, 3, 4}, 0, false},
		{"four of seven", []int64{1, 1, 1, 1, 1, 1, 1}, []int{0, 1, 2, 3}, 0, false},
		{"one has it all", []int64{1, 70, 1, 1}, []int{0}, 0, false},
		{"unequal, enough", []int64{10, 300, 20, 150}, []int{0, 1}, 300, false},
		{"unequal, not enough", []int64{10, 300, 20, 150}, []int{0, 2}, 0, false},
		{"one alone, with an empty header", []int64{5}, []int{0}, 0, true},
	} {
		cases = append(cases, vector(t, number, c.name, c.powers, c.signs, c.round, c.empty))
	}
	raw, err := json.MarshalIndent(cases, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if *update {
		if err := os.WriteFile(vectors, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if stored, err := os.ReadFile(vectors); err != nil || !bytes.Equal(stored, raw) {
		t.Fatalf("%s is not what this CometBFT makes (%v): run `go test . -run Vectors -update` and see what changed", vectors, err)
	}
}

func vector(t *testing.T, number int, name string, powers []int64, signs []int, round int32, empty bool) object {
	t.Helper()
	keys := map[string]crypto.PrivKey{}
	var validators []*comet.Validator
	for i, power := range powers {
		key := ed25519.GenPrivKeyFromSecret(fmt.Appendf(nil, "vector %d key %d", number, i))
		keys[string(key.PubKey().Address())] = key
		validators = append(validators, comet.NewValidator(key.PubKey(), power))
	}
	set := comet.NewValidatorSet(validators)
	hash := func(i byte) []byte {
		if empty {
			return nil
		}
		return bytes.Repeat([]byte{byte(number), i}, 16)
	}
	h := comet.Header{
		Version: version.Consensus{Block: 11, App: uint64(number % 2)}, ChainID: "ballotboard-77001", Height: int64(1000*number + 1),
		Time: time.Unix(1_800_000_000+int64(number), int64(number)*1000).UTC(), LastCommitHash: hash(1), DataHash: hash(2), ValidatorsHash: set.Hash(),
		NextValidatorsHash: hash(3), ConsensusHash: hash(4), AppHash: hash(5), LastResultsHash: hash(6), EvidenceHash: hash(7), ProposerAddress: set.Validators[0].Address,
	}
	if !empty {
		h.LastBlockID = comet.BlockID{Hash: hash(8), PartSetHeader: comet.PartSetHeader{Total: 3, Hash: hash(9)}}
	}
	id := comet.BlockID{Hash: h.Hash(), PartSetHeader: comet.PartSetHeader{Total: uint32(number + 1), Hash: bytes.Repeat([]byte{9}, 32)}}
	commit := &comet.Commit{Height: h.Height, Round: round, BlockID: id, Signatures: make([]comet.CommitSig, len(powers))}
	for i := range commit.Signatures {
		commit.Signatures[i] = comet.NewCommitSigAbsent()
	}
	var signatures []object
	for _, i := range signs {
		flag := comet.BlockIDFlagCommit
		if i < 0 {
			i, flag = -1-i, comet.BlockIDFlagNil
		}
		v := set.Validators[i]
		sig := comet.CommitSig{BlockIDFlag: flag, ValidatorAddress: v.Address, Timestamp: time.Unix(1_800_000_001, int64(i)).UTC()}
		commit.Signatures[i] = sig
		signature, err := keys[string(v.Address)].Sign(commit.VoteSignBytes(h.ChainID, int32(i)))
		if err != nil {
			t.Fatal(err)
		}
		commit.Signatures[i].Signature = signature
		signatures = append(signatures, object{"validator": i, "time": stamp(sig.Timestamp), "signature": hex.EncodeToString(signature), "nil": flag == comet.BlockIDFlagNil})
	}
	var order []object
	for _, v := range set.Validators {
		order = append(order, object{"key": hex.EncodeToString(v.PubKey.Bytes()), "power": v.VotingPower})
	}
	return object{
		"name": name, "validators": order, "header_hash": hex.EncodeToString(h.Hash()), "enough": set.VerifyCommit(h.ChainID, id, h.Height, commit) == nil,
		"header": object{
			"block_version": h.Version.Block, "app_version": h.Version.App, "chain_id": h.ChainID, "height": h.Height, "time": stamp(h.Time), "last_block_id": blockID(h.LastBlockID),
			"last_commit_hash": h.LastCommitHash.String(), "data_hash": h.DataHash.String(), "validators_hash": h.ValidatorsHash.String(), "next_validators_hash": h.NextValidatorsHash.String(),
			"consensus_hash": h.ConsensusHash.String(), "app_hash": h.AppHash.String(), "last_results_hash": h.LastResultsHash.String(), "evidence_hash": h.EvidenceHash.String(),
			"proposer_address": h.ProposerAddress.String(),
		},
		"commit": object{"round": round, "block_id": blockID(id), "signatures": signatures},
	}
}

func stamp(t time.Time) object { return object{"seconds": t.Unix(), "nanos": t.Nanosecond()} }

func blockID(b comet.BlockID) object {
	return object{"hash": b.Hash.String(), "parts": b.PartSetHeader.Total, "parts_hash": b.PartSetHeader.Hash.String()}
}
