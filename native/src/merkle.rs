//! The tree of RFC 9162, section 2.1, with SHA-256.

use sha2::{Digest, Sha256};

use crate::error::{Result, fail};

pub type Hash = [u8; 32];

pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over leaf hashes; SHA-256 of nothing for none.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        ascend(&mut level);
    }
    level.first().copied().unwrap_or_else(|| Sha256::digest([]).into())
}

/// The sibling hashes from leaf `index` up to the root.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Result<Vec<Hash>> {
    if index >= leaves.len() {
        fail!("no leaf {index} in a tree of {}", leaves.len());
    }
    let (mut level, mut position, mut proof) = (leaves.to_vec(), index, vec![]);
    while level.len() > 1 {
        proof.extend(level.get(position ^ 1));
        ascend(&mut level);
        position /= 2;
    }
    Ok(proof)
}

/// Replaces a level by the one above. An odd last node is passed up unchanged, which gives the tree of the RFC.
fn ascend(level: &mut Vec<Hash>) {
    let (pairs, odd) = (level.len() / 2, level.len() % 2);
    for i in 0..pairs {
        level[i] = node_hash(&level[2 * i], &level[2 * i + 1]);
    }
    if odd == 1 {
        level[pairs] = level[2 * pairs];
    }
    level.truncate(pairs + odd);
}
