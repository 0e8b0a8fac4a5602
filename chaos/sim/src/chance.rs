//! Randomness: one child generator for each purpose, so that drawing more for one does not change another.

/// A generator for one purpose of one seed; `index` tells several of a kind apart.
pub fn child(seed: u64, purpose: &str, index: u64) -> fastrand::Rng {
    // FNV-1a over the purpose; SplitMix64 over the sum, so that near seeds are far apart.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in purpose.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut mixed = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(hash)
        .wrapping_add(index.wrapping_mul(0xd1b5_4a32_d192_ed03));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    fastrand::Rng::with_seed(mixed ^ (mixed >> 31))
}
