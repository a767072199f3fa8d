// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	comet "github.com/cometbft/cometbft/types"

	"ballotboard/validator/app"
	"ballotboard/validator/engine"
	"ballotboard/validator/internal/gethtest"
)

// dieAt tells the test binary to be a validator that dies, by kill -9 of itself, at a point of the commit protocol: "point@height".
const dieAt = "VALIDATOR_TEST_DIE_AT"

func TestMain(m *testing.M) {
	at, isValidator := os.LookupEnv(dieAt)
	if !isValidator {
		os.Exit(m.Run())
	}
	app.Step = func(point string, height int64) {
		if at == fmt.Sprintf("%s@%d", point, height) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	main()
}

func TestAnAddressThatIsNoneDoesNotKeepUsFromTheOthers(t *testing.T) {
	id := func(n int) string { return strings.Repeat(fmt.Sprintf("%02x", n), 20) }
	operators := []engine.Operator{
		{NodeID: id(1), Host: "127.0.0.1", ConsensusPort: 5}, {NodeID: id(2), Host: "a:b", ConsensusPort: 5}, {NodeID: "nobody", Host: "127.0.0.1", ConsensusPort: 5},
		{NodeID: id(3), Host: "no such host.invalid", ConsensusPort: 5}, {NodeID: id(4), Host: "::1", ConsensusPort: 5}, {NodeID: id(5), Host: "127.0.0.1", ConsensusPort: 5}, {},
	}
	want := []string{id(1) + "@127.0.0.1:5", id(2) + "@[a:b]:5", id(3) + "@no such host.invalid:5", id(4) + "@[::1]:5"}
	if got := peers(operators, p2p.ID(id(5))); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// validator is a network of one: its own majority, so that it decides alone.
type validator struct {
	t       *testing.T
	geth    *gethtest.Geth
	home    string
	process *exec.Cmd
}

func newValidator(t *testing.T) *validator {
	v := &validator{t: t, geth: gethtest.New(t), home: t.TempDir()}
	for _, dir := range []string{"config", "data"} {
		if err := os.Mkdir(filepath.Join(v.home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	pv := privval.NewFilePV(ed25519.GenPrivKey(), filepath.Join(v.home, "config/priv_validator_key.json"), filepath.Join(v.home, "data/priv_validator_state.json"))
	pv.Save()
	if _, err := p2p.LoadOrGenNodeKey(filepath.Join(v.home, "config/node_key.json")); err != nil {
		t.Fatal(err)
	}
	state, _ := json.Marshal(map[string]any{"evm_genesis": v.geth.Genesis})
	doc := comet.GenesisDoc{
		ChainID: "test", GenesisTime: time.Now(), AppState: state, ConsensusParams: comet.DefaultConsensusParams(),
		Validators: []comet.GenesisValidator{{PubKey: pv.Key.PubKey, Power: 1}},
	}
	if err := doc.SaveAs(filepath.Join(v.home, "config/genesis.json")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.kill)
	return v
}

func (v *validator) start(die string, options ...string) {
	v.t.Helper()
	binary, err := os.Executable()
	if err != nil {
		v.t.Fatal(err)
	}
	v.process = exec.Command(binary, append([]string{"-home", v.home, "-engine", v.geth.URL(), "-ipc", v.geth.IPC(), "-jwt", v.geth.JWT(),
		"-p2p", "tcp://127.0.0.1:0", "-rpc", "", "-one-host", "-timeout-commit", "50ms"}, options...)...)
	v.process.Env = append(os.Environ(), dieAt+"="+die)
	log, err := os.OpenFile(filepath.Join(v.home, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	v.process.Stdout, v.process.Stderr = log, log
	if err := v.process.Start(); err != nil {
		v.t.Fatal(err)
	}
}

func (v *validator) kill() {
	if v.process != nil {
		_ = v.process.Process.Kill()
		_ = v.process.Wait()
		v.process = nil
	}
}

// died waits until the process has died by its own hand, or else fails.
func (v *validator) died() {
	v.t.Helper()
	done := make(chan error, 1)
	go func() { done <- v.process.Wait() }()
	select {
	case <-done:
		if status := v.process.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
			v.t.Fatalf("ended with %v instead of dying: %s", status, v.tail())
		}
	case <-time.After(30 * time.Second):
		v.t.Fatalf("did not reach the point where it dies: %s", v.tail())
	}
	v.process = nil
}

func (v *validator) head() int64 { return v.geth.Header(v.t, "latest").Number.Int64() }

func (v *validator) tail() string {
	raw, _ := os.ReadFile(filepath.Join(v.home, "log"))
	return string(raw[max(0, len(raw)-2000):])
}

// steps are the points of the commit protocol, in order.
var steps = []string{
	"process: before newPayload", "process: after newPayload",
	"finalize: before newPayload", "finalize: after newPayload",
	"commit: before forkchoiceUpdated", "commit: after forkchoiceUpdated",
}

// At every point the validator dies; then it and geth die together; then it dies and geth's chain is lost. Each time the chain must go on
// with every block that it had.
func TestTheChainGoesOnWhereverAValidatorDies(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a dozen processes")
	}
	v := newValidator(t)
	hashes := map[int64]string{}
	check := func(what string) {
		t.Helper()
		last := v.head()
		for n := int64(1); n <= last; n++ {
			hash := v.geth.Header(t, fmt.Sprintf("%#x", n)).Hash().Hex()
			if before, ok := hashes[n]; ok && before != hash {
				t.Fatalf("%s: block %d was %s and is %s", what, n, before, hash)
			}
			hashes[n] = hash
		}
		if known := int64(len(hashes)); known > last {
			t.Fatalf("%s: the chain had %d blocks and has %d", what, known, last)
		}
	}
	for _, and := range []string{"", ", and geth with it", ", and geth's chain is lost"} {
		for _, step := range steps {
			height := v.head() + 3
			v.start(fmt.Sprintf("%s@%d", step, height))
			v.died()
			check(step)
			if and != "" {
				v.geth.Kill()
				if strings.HasSuffix(and, "lost") {
					v.geth.Wipe(t)
				}
				v.geth.Start(t)
			}
			v.start("")
			gethtest.Until(t, fmt.Sprintf("blocks after dying at %q%s", step, and), func() bool { return v.head() >= height+1 })
			v.kill()
			check(step + and)
		}
	}
}

func TestGethAloneMayDieAtAnyTime(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several processes")
	}
	v := newValidator(t)
	v.start("")
	for _, wipe := range []bool{false, true} {
		gethtest.Until(t, "blocks", func() bool { return v.head() >= 3 })
		last := v.geth.Header(t, "latest")
		v.geth.Kill()
		if wipe {
			v.geth.Wipe(t)
		}
		v.geth.Start(t)
		gethtest.Until(t, "the chain to go on", func() bool { return v.head() > last.Number.Int64()+2 })
		if h := v.geth.Header(t, fmt.Sprintf("%#x", last.Number)); h.Hash() != last.Hash() {
			t.Fatalf("block %d was replaced (wiped: %v)", last.Number, wipe)
		}
	}
}

func TestItEndsInGoodOrderEvenWithoutGeth(t *testing.T) {
	v := newValidator(t)
	v.start("")
	gethtest.Until(t, "a block", func() bool { return v.head() >= 1 })
	v.geth.Kill()
	_ = v.process.Process.Signal(syscall.SIGTERM)
	start := time.Now()
	if err := v.process.Wait(); err != nil || time.Since(start) > 2*stopLimit {
		t.Fatalf("%v after %v: %s", err, time.Since(start), v.tail())
	}
	v.process = nil
}

func TestItServesItsMetrics(t *testing.T) {
	v := newValidator(t)
	address := fmt.Sprintf("127.0.0.1:%d", gethtest.FreePort(t))
	v.start("", "-metrics", address)
	var body string
	gethtest.Until(t, "metrics of a committed block", func() bool {
		r, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		raw, _ := io.ReadAll(r.Body)
		body = string(raw)
		return strings.Contains(body, "validator_height ") && !strings.Contains(body, "validator_height 0")
	})
	for _, name := range []string{
		"cometbft_consensus_height", "cometbft_consensus_rounds", "cometbft_consensus_missing_validators", "cometbft_consensus_validators_power",
		`validator_engine_seconds_count{failed="no",method="engine_newPayloadV4"}`, "validator_turns_skipped_total", "validator_engine_retries_total",
	} {
		if !strings.Contains(body, name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestTheGenesisOfThePythonSideHasTheSameSystemContracts(t *testing.T) {
	raw, err := os.ReadFile("../network/system_contracts.json")
	if err != nil {
		t.Fatal(err)
	}
	var theirs map[string]string
	if err := json.Unmarshal(raw, &theirs); err != nil {
		t.Fatal(err)
	}
	ours := gethtest.SystemContracts()
	if len(theirs) != len(ours) {
		t.Errorf("%d and %d", len(theirs), len(ours))
	}
	for address, code := range ours {
		if theirs[strings.ToLower(address.Hex())] != fmt.Sprintf("0x%x", code) {
			t.Errorf("%s differs", address)
		}
	}
}
