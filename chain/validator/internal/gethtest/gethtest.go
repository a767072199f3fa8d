// SPDX-License-Identifier: Apache-2.0

// Package gethtest runs a real geth for tests.
package gethtest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/ethereum/go-ethereum/rpc"
)

// ChainID and GasLimit of the test's genesis.
const (
	ChainID  = 4242
	GasLimit = 1_000_000_000
)

// Secret of the Engine API.
var Secret = []byte("0123456789abcdef0123456789abcdef")

// Geth is one process over the folder Dir.
type Geth struct {
	Dir     string
	Genesis common.Hash
	port    int
	rpcPort int
	binary  string
	process *exec.Cmd
}

// URL is that of the Engine API, HTTP that of JSON-RPC, IPC the socket, JWT the file with the secret.
func (g *Geth) URL() string  { return fmt.Sprintf("http://127.0.0.1:%d", g.port) }
func (g *Geth) HTTP() string { return fmt.Sprintf("http://127.0.0.1:%d", g.rpcPort) }
func (g *Geth) IPC() string  { return filepath.Join(g.Dir, "geth", "geth.ipc") }
func (g *Geth) JWT() string  { return filepath.Join(g.Dir, "jwt.hex") }

// New initialises a chain with some funded accounts and starts geth; the test ends with it. It skips the test where there is no geth.
func New(t *testing.T, funded ...common.Address) *Geth {
	t.Helper()
	binary := findGeth()
	if _, err := os.Stat(binary); err != nil {
		t.Skip("no geth: run `make validator`, or name one in BALLOTBOARD_GETH")
	}
	g := &Geth{Dir: t.TempDir(), port: FreePort(t), rpcPort: FreePort(t), binary: binary}
	genesis := filepath.Join(g.Dir, "genesis.json")
	write(t, genesis, Genesis(funded...))
	if err := os.WriteFile(g.JWT(), []byte(hex.EncodeToString(Secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "--datadir", filepath.Join(g.Dir, "geth"), "--verbosity", "1", "init", "--state.scheme", "hash", genesis).CombinedOutput()
	if err != nil {
		t.Fatalf("geth init: %s", out)
	}
	t.Cleanup(g.Kill)
	g.Start(t)
	var header *types.Header
	g.Call(t, &header, "eth_getBlockByNumber", "0x0", false)
	g.Genesis = header.Hash()
	return g
}

// findGeth is BALLOTBOARD_GETH, else .bin/geth of the checkout.
func findGeth() string {
	if named := os.Getenv("BALLOTBOARD_GETH"); named != "" {
		return named
	}
	return filepath.Join(checkout(), ".bin/geth")
}

// checkout is the folder above chain/validator, in which a test runs in its package's own.
func checkout() string {
	here, _ := os.Getwd()
	for filepath.Base(here) != "chain" && here != filepath.Dir(here) {
		here = filepath.Dir(here)
	}
	return filepath.Dir(here)
}

// Start starts the process and waits until it answers.
func (g *Geth) Start(t *testing.T) {
	t.Helper()
	g.process = exec.Command(g.binary, "--datadir", filepath.Join(g.Dir, "geth"), "--state.scheme", "hash", "--gcmode", "archive", "--syncmode", "full",
		"--cache", "64", "--nodiscover", "--nat", "none", "--maxpeers", "0", "--port", "0", "--authrpc.port", fmt.Sprint(g.port), "--authrpc.jwtsecret", g.JWT(),
		"--http", "--http.port", fmt.Sprint(g.rpcPort), "--http.api", "eth,txpool", "--miner.gaslimit", fmt.Sprint(GasLimit), "--miner.gasprice", "1", "--txpool.pricelimit", "1", "--verbosity", "1")
	log, err := os.OpenFile(filepath.Join(g.Dir, "geth.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	g.process.Stdout, g.process.Stderr = log, log
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, "geth to answer", func() bool {
		for _, port := range []int{g.port, g.rpcPort} {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	})
}

// Kill is kill -9.
func (g *Geth) Kill() {
	if g.process != nil {
		_ = g.process.Process.Kill()
		_ = g.process.Wait()
		g.process = nil
	}
}

// Wipe removes the chain and initialises it again; geth must not run.
func (g *Geth) Wipe(t *testing.T) {
	t.Helper()
	data := filepath.Join(g.Dir, "geth")
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(g.binary, "--datadir", data, "--verbosity", "1", "init", "--state.scheme", "hash", filepath.Join(g.Dir, "genesis.json")).CombinedOutput(); err != nil {
		t.Fatalf("geth init: %s", out)
	}
}

// Call asks geth's JSON-RPC.
func (g *Geth) Call(t *testing.T, result any, method string, args ...any) {
	t.Helper()
	c, err := rpc.Dial(g.HTTP())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.CallContext(context.Background(), result, method, args...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// Header is a block's header, by tag or number.
func (g *Geth) Header(t *testing.T, tag string) (h *types.Header) {
	t.Helper()
	g.Call(t, &h, "eth_getBlockByNumber", tag, false)
	return h
}

// SystemContracts are those that Cancun and Prague expect.
func SystemContracts() map[common.Address][]byte {
	return map[common.Address][]byte{
		params.BeaconRootsAddress: params.BeaconRootsCode, params.HistoryStorageAddress: params.HistoryStorageCode,
		params.WithdrawalQueueAddress: params.WithdrawalQueueCode, params.ConsolidationQueueAddress: params.ConsolidationQueueCode,
	}
}

// validators is the genesis account of the Validators contract with one member: Solidity's layout, as in chain/network/genesis.py.
func validators(member common.Address) map[string]any {
	raw, err := os.ReadFile(filepath.Join(checkout(), "contracts/Validators.json"))
	var artifact struct {
		Code string `json:"runtime_code"`
	}
	if err == nil {
		err = json.Unmarshal(raw, &artifact)
	}
	if err != nil {
		panic(err)
	}
	list := crypto.Keccak256Hash(common.Hash{}.Bytes()).Big()
	slot := func(n int64) string { return common.BigToHash(new(big.Int).Add(list, big.NewInt(n))).Hex() }
	account := common.BytesToHash(member.Bytes())
	account[11] = 3 // power, below which another may join
	return map[string]any{"balance": "0x0", "nonce": "0x1", "code": "0x" + artifact.Code, "storage": map[string]string{
		common.Hash{}.Hex(): common.BigToHash(common.Big1).Hex(), slot(0): common.Hash{1}.Hex(), slot(1): account.Hex(),
	}}
}

// Genesis is what `geth init` reads: all forks up to Osaka, base fee 0. The first that is funded votes on the validators.
func Genesis(funded ...common.Address) map[string]any {
	blobs := map[string]any{"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477}
	config := map[string]any{"chainId": ChainID, "terminalTotalDifficulty": 0, "blobSchedule": map[string]any{"cancun": blobs, "prague": blobs, "osaka": blobs}}
	for fork := range strings.FieldsSeq("homestead eip150 eip155 eip158 byzantium constantinople petersburg istanbul berlin london") {
		config[fork+"Block"] = 0
	}
	for fork := range strings.FieldsSeq("shanghai cancun prague osaka") {
		config[fork+"Time"] = 0
	}
	alloc := map[string]any{}
	for address, code := range SystemContracts() {
		alloc[address.Hex()] = map[string]any{"balance": "0x0", "nonce": "0x1", "code": "0x" + hex.EncodeToString(code)}
	}
	if len(funded) > 0 {
		alloc["0x0000000000000000000000000000000000001000"] = validators(funded[0])
	}
	for _, address := range funded {
		alloc[address.Hex()] = map[string]any{"balance": "0x3635c9adc5dea00000"}
	}
	return map[string]any{"config": config, "nonce": "0x0", "timestamp": fmt.Sprintf("%#x", time.Now().Unix()-5), "extraData": "0x", "gasLimit": fmt.Sprintf("%#x", GasLimit),
		"difficulty": "0x0", "mixHash": common.Hash{}, "coinbase": common.Address{}, "baseFeePerGas": "0x0", "alloc": alloc}
}

// Until waits for a condition.
func Until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

func write(t *testing.T, path string, value any) {
	t.Helper()
	raw, err := json.Marshal(value)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FreePort is a port of 127.0.0.1 on which nobody listens now.
func FreePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
