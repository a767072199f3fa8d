// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/cometbft/cometbft/libs/log"

	"ballotboard/validator/app"
)

// cometLogger writes CometBFT's messages with ours, as JSON lines. What CometBFT calls information, a dozen lines a block, is for debugging.
//
// CometBFT's consensus routine recovers from its own panic, says so once, and leaves a process that stands still: this ends it, so that
// the supervisor sees it.
type cometLogger struct{ *slog.Logger }

var _ log.Logger = cometLogger{}

func (l cometLogger) Debug(string, ...any) {}

func (l cometLogger) Info(msg string, kv ...any) {
	if l.Enabled(context.Background(), slog.LevelDebug) {
		l.Logger.Debug(msg, texts(kv)...)
	}
}

func (l cometLogger) Error(msg string, kv ...any) {
	l.Logger.Error(msg, texts(kv)...)
	if strings.HasPrefix(msg, "CONSENSUS FAILURE") {
		os.Exit(app.ExitRetry)
	}
}

func (l cometLogger) With(kv ...any) log.Logger { return cometLogger{l.Logger.With(texts(kv)...)} }

// texts makes values readable: CometBFT passes structures that know how to print themselves, and not how to become JSON.
func texts(kv []any) []any {
	out := make([]any, len(kv))
	for i, v := range kv {
		switch v := v.(type) {
		case error:
			out[i] = v.Error()
		case fmt.Stringer:
			out[i] = v.String()
		default:
			out[i] = v
		}
	}
	return out
}
