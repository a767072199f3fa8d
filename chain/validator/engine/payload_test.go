// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

func header() *types.Header {
	zero := uint64(0)
	return &types.Header{
		Number: big.NewInt(7), Difficulty: new(big.Int), BaseFee: new(big.Int), WithdrawalsHash: &types.EmptyWithdrawalsHash, BlobGasUsed: &zero, ExcessBlobGas: &zero,
		ParentBeaconRoot: &common.Hash{1}, RequestsHash: &types.EmptyRequestsHash, UncleHash: types.EmptyUncleHash, TxHash: types.EmptyTxsHash, ReceiptHash: types.EmptyReceiptsHash,
	}
}

func encoded(t *testing.T, h *types.Header, body types.Body) []byte {
	t.Helper()
	raw, err := (&Payload{types.NewBlockWithHeader(h).WithBody(body), [][]byte{{0, 1}}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var noWithdrawals = types.Body{Withdrawals: []*types.Withdrawal{}}

func TestAPayloadSurvivesItsEncoding(t *testing.T) {
	raw := encoded(t, header(), noWithdrawals)
	p, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if p.Block.Hash() != header().Hash() || len(p.Requests) != 1 || !bytes.Equal(p.Requests[0], []byte{0, 1}) {
		t.Fatalf("%+v", p)
	}
}

func TestWhatIsNotOneCanonicalPayloadIsRefused(t *testing.T) {
	good := encoded(t, header(), noWithdrawals)
	old := header()
	old.RequestsHash = nil
	older := header()
	older.RequestsHash, older.ParentBeaconRoot, older.ExcessBlobGas, older.BlobGasUsed, older.WithdrawalsHash = nil, nil, nil, nil, nil
	for name, raw := range map[string][]byte{
		"nothing":                nil,
		"a byte too few":         good[:len(good)-1],
		"a byte too many":        append(bytes.Clone(good), 0),
		"text":                   []byte("propose me"),
		"an empty list":          {0xc0},
		"no requests":            append([]byte{0xf9, 0, 0}, good[3:]...),
		"a block before Prague":  encoded(t, old, noWithdrawals),
		"a block of London":      encoded(t, older, types.Body{}),
		"no list of withdrawals": encoded(t, header(), types.Body{}),
		"uncles":                 encoded(t, header(), types.Body{Withdrawals: []*types.Withdrawal{}, Uncles: []*types.Header{header()}}),
	} {
		if p, err := Decode(raw); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func FuzzDecodeNeverPanicsAndIsTheInverseOfEncode(f *testing.F) {
	raw, err := (&Payload{types.NewBlockWithHeader(header()).WithBody(noWithdrawals), nil}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			return
		}
		if again, err := p.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x encodes to %x, %v", data, again, err)
		}
	})
}

func TestATokenIsSignedWithTheSecretAndSaysWhen(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	token := strings.TrimPrefix(bearer(secret, time.Unix(1_700_000_000, 0)), "Bearer ")
	parts := strings.Split(token, ".")
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	if parts[2] != base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) {
		t.Error("wrong signature")
	}
	if claims, _ := base64.RawURLEncoding.DecodeString(parts[1]); string(claims) != `{"iat":1700000000}` {
		t.Errorf("%s", claims)
	}
}
