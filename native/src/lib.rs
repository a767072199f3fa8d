//! The inner loops of the Ballotboard protocol (docs/protocol.md), for the reference in `protocol/` to stand on.
//!
//! Read `layout`, `election`, `create` and `verify` in this order to follow a ballot; `batch` holds the idea that
//! makes verification fast, `lanes` the machinery. `python` is the only file that knows Python.

pub mod arithmetic;
pub mod batch;
pub mod create;
pub mod credential;
pub mod dlog;
pub mod election;
pub mod equality;
pub mod error;
pub mod knowledge;
#[cfg(target_arch = "x86_64")]
pub mod lanes;
pub mod layout;
pub mod merkle;
pub mod packed;
pub mod parallel;
pub mod sums;
pub mod transcript;
pub mod verify;

#[cfg(feature = "python")]
mod python;
