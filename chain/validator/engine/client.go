// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"

	api "github.com/ethereum/go-ethereum/beacon/engine"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"
)

var (
	// ErrInvalid is final: the execution client has run the block, or looked at it, and refuses it.
	ErrInvalid = errors.New("the execution client refuses the block")
	// ErrBehind may pass: the execution client lacks the parent, because it has lost blocks or is starting.
	ErrBehind = errors.New("the execution client lacks the parent")
)

// Client is one geth: its Engine API over HTTP with a token per request (JWT, HS256), and its IPC socket for Repair alone.
type Client struct {
	rpc     *rpc.Client
	ipc     string
	observe func(method string, took time.Duration, failed bool)
}

// Dial prepares a client; nothing is sent yet. `secret` is the 32 bytes that geth has too. `observe` sees every call (metrics).
func Dial(url, ipc string, secret []byte, observe func(method string, took time.Duration, failed bool)) (*Client, error) {
	c, err := rpc.DialOptions(context.Background(), url, rpc.WithHTTPAuth(func(h http.Header) error {
		h.Set("Authorization", bearer(secret, time.Now()))
		return nil
	}))
	return &Client{c, ipc, observe}, err
}

// bearer is a token as the Engine API's authentication wants it: geth takes it for a minute.
func bearer(secret []byte, now time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"typ":"JWT","alg":"HS256"}`)) + "." + encode(fmt.Appendf(nil, `{"iat":%d}`, now.Unix()))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return "Bearer " + signed + "." + encode(mac.Sum(nil))
}

func (c *Client) call(ctx context.Context, result any, method string, args ...any) error {
	start := time.Now()
	err := c.rpc.CallContext(ctx, result, method, args...)
	c.observe(method, time.Since(start), err != nil)
	return err
}

// Head is the header of the block that geth has as its latest.
func (c *Client) Head(ctx context.Context) (*types.Header, error) {
	h, err := c.header(ctx, "latest")
	if err == nil && h == nil {
		err = errors.New("the execution client has no latest block")
	}
	return h, err
}

// header gives nil without error for a block that geth does not have.
func (c *Client) header(ctx context.Context, tag string) (h *types.Header, err error) {
	err = c.call(ctx, &h, "eth_getBlockByNumber", tag, false)
	return
}

// NewPayload has geth run and store a block; the head does not move. For a block it knows this is cheap and changes nothing.
// nil means valid; otherwise ErrInvalid, ErrBehind, or that there was no answer.
func (c *Client) NewPayload(ctx context.Context, p *Payload) error {
	requests := make([]hexutil.Bytes, len(p.Requests))
	for i, r := range p.Requests {
		requests[i] = r
	}
	data := api.BlockToExecutableData(p.Block, new(big.Int), nil, nil).ExecutionPayload
	var s api.PayloadStatusV1
	err := c.call(ctx, &s, "engine_newPayloadV4", data, []common.Hash{}, p.Block.BeaconRoot(), requests)
	if err != nil {
		return err
	}
	return statusError(s)
}

// SetHead makes a stored block head, safe and finalized.
func (c *Client) SetHead(ctx context.Context, hash common.Hash) error {
	_, err := c.forkchoice(ctx, hash, nil)
	return err
}

// Build starts a payload on top of `head`, which is the head already.
func (c *Client) Build(ctx context.Context, head common.Hash, a *api.PayloadAttributes) (api.PayloadID, error) {
	id, err := c.forkchoice(ctx, head, a)
	if err != nil {
		return api.PayloadID{}, err
	}
	if id == nil {
		return api.PayloadID{}, ErrBehind // it takes `head` for an old one
	}
	return *id, nil
}

func (c *Client) forkchoice(ctx context.Context, head common.Hash, a *api.PayloadAttributes) (*api.PayloadID, error) {
	var r api.ForkChoiceResponse
	state := api.ForkchoiceStateV1{HeadBlockHash: head, SafeBlockHash: head, FinalizedBlockHash: head}
	if err := c.call(ctx, &r, "engine_forkchoiceUpdatedV3", state, a); err != nil {
		return nil, err
	}
	return r.PayloadID, statusError(r.PayloadStatus)
}

// GetPayload ends the building of a payload and takes it.
func (c *Client) GetPayload(ctx context.Context, id api.PayloadID, beaconRoot *common.Hash) (*Payload, error) {
	var e api.ExecutionPayloadEnvelope
	if err := c.call(ctx, &e, "engine_getPayloadV5", id); err != nil {
		return nil, err
	}
	requests := e.Requests
	if requests == nil {
		requests = [][]byte{}
	}
	b, err := api.ExecutableDataToBlock(*e.ExecutionPayload, []common.Hash{}, beaconRoot, requests)
	if err != nil {
		return nil, err // also when it holds blob transactions, whose hashes are not in the empty list
	}
	return &Payload{b, requests}, nil
}

// Repair removes blocks that are marked canonical above the head. After a kill geth may start at an older head but keep the marks above
// it: it would then answer VALID for such a block without running it, and take it for an old head.
func (c *Client) Repair(ctx context.Context) error {
	head, err := c.Head(ctx)
	if err != nil {
		return err
	}
	above, err := c.header(ctx, hexutil.EncodeBig(new(big.Int).Add(head.Number, common.Big1)))
	if err != nil || above == nil {
		return err
	}
	local, err := rpc.DialContext(ctx, c.ipc)
	if err != nil {
		return fmt.Errorf("the execution client holds blocks above its head %d, and its IPC socket, by which they go, does not answer: %w", head.Number, err)
	}
	defer local.Close()
	return local.CallContext(ctx, nil, "debug_setHead", hexutil.EncodeBig(head.Number))
}

func statusError(s api.PayloadStatusV1) error {
	switch s.Status {
	case api.VALID:
		return nil
	case api.INVALID:
		why := "no reason given"
		if s.ValidationError != nil {
			why = *s.ValidationError
		}
		return fmt.Errorf("%w: %s", ErrInvalid, why)
	}
	return ErrBehind // SYNCING or ACCEPTED
}
