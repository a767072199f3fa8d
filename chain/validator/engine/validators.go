// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"
)

// Validators is the contract by whose votes the validator set changes: contracts/IValidators.sol, in the genesis at this address.
var Validators = common.HexToAddress("0x1000")

// What the validator needs of its interface.
var validators = func() abi.ABI {
	parsed, err := abi.JSON(strings.NewReader(`[
		{"type": "function", "name": "members", "inputs": [], "outputs": [{"type": "tuple[]", "components": [
			{"name": "key", "type": "bytes32"}, {"name": "account", "type": "address"}, {"name": "power", "type": "uint64"}, {"name": "operator", "type": "bytes"}]}]},
		{"type": "event", "name": "Changed", "inputs": [
			{"name": "round", "type": "uint64", "indexed": true}, {"name": "key", "type": "bytes32", "indexed": true}, {"name": "power", "type": "uint64"}]}]`))
	if err != nil {
		panic(err)
	}
	return parsed
}()

// Change gives a validator's key a power; 0 removes it.
type Change struct {
	Key   [32]byte
	Power int64
}

// Operator is what the others need to reach a validator: the fields of operator.json (chain/network/operator.py).
type Operator struct {
	NodeID        string `json:"node_id"`
	ExecutionKey  string `json:"execution_key"`
	Host          string `json:"host"`
	ConsensusPort uint16 `json:"consensus_port"`
	ExecutionPort uint16 `json:"execution_port"`
}

// Peer is the operator as CometBFT names a peer, Enode as geth does.
func (o Operator) Peer() string { return o.NodeID + "@" + o.at(o.ConsensusPort) }
func (o Operator) Enode() string {
	return "enode://" + o.ExecutionKey + "@" + o.at(o.ExecutionPort) + "?discport=0"
}

func (o Operator) at(port uint16) string { return net.JoinHostPort(o.Host, strconv.Itoa(int(port))) }

// Changes are those that a block made, which must be known to geth. The header's bloom filter says for nothing that almost every block
// made none.
func (c *Client) Changes(ctx context.Context, block *types.Header) ([]Change, error) {
	if !types.BloomLookup(block.Bloom, Validators) {
		return nil, nil
	}
	var logs []types.Log
	event := validators.Events["Changed"]
	filter := map[string]any{"blockHash": block.Hash(), "address": Validators, "topics": []common.Hash{event.ID}}
	if err := c.call(ctx, &logs, "eth_getLogs", filter); err != nil {
		if _, answered := err.(rpc.Error); answered { // "unknown block": it was lost in a crash, and is fed again
			err = fmt.Errorf("%w: %w", ErrBehind, err)
		}
		return nil, err
	}
	var changes []Change
	for _, log := range logs {
		values, err := event.Inputs.NonIndexed().Unpack(log.Data)
		if err != nil || len(log.Topics) != 3 {
			return nil, fmt.Errorf("%w: a change of the validators that does not decode: %w", ErrInvalid, err)
		}
		power := values[0].(uint64)
		if power > math.MaxInt64 {
			return nil, fmt.Errorf("%w: a validator with power %d", ErrInvalid, power)
		}
		changes = append(changes, Change{log.Topics[2], int64(power)})
	}
	return changes, nil
}

// Operators are those of the present validators.
func (c *Client) Operators(ctx context.Context) ([]Operator, error) {
	input, err := validators.Pack("members")
	if err != nil {
		return nil, err
	}
	var output hexutil.Bytes
	if err := c.call(ctx, &output, "eth_call", map[string]any{"to": Validators, "data": hexutil.Bytes(input)}, "latest"); err != nil {
		return nil, err
	}
	var members []struct {
		Key      [32]byte
		Account  common.Address
		Power    uint64
		Operator []byte
	}
	if err := validators.UnpackIntoInterface(&members, "members", output); err != nil {
		return nil, fmt.Errorf("%w: there is no contract of validators: %w", ErrInvalid, err)
	}
	var operators []Operator
	for _, m := range members {
		var o Operator
		if json.Unmarshal(m.Operator, &o) == nil { // else the voters let nonsense in, and nobody can reach that one
			operators = append(operators, o)
		}
	}
	return operators, nil
}

// Meet has geth keep connections to other execution clients, over IPC. Repeating it changes nothing.
func (c *Client) Meet(ctx context.Context, operators []Operator) error {
	local, err := rpc.DialContext(ctx, c.ipc)
	if err != nil {
		return err
	}
	defer local.Close()
	for _, o := range operators { // one whose address is none does not keep us from the others
		for _, method := range []string{"admin_addTrustedPeer", "admin_addPeer"} {
			err = errors.Join(err, local.CallContext(ctx, nil, method, o.Enode()))
		}
	}
	return err
}
