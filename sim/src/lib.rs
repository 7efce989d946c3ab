//! The test bed: from one integer it grows a whole run of the contact cache, judges it, and replays it exactly.

#[cfg(not(madsim))]
compile_error!(
    "seedbed needs `--cfg madsim`, which .cargo/config.toml sets, but a RUSTFLAGS variable in the environment replaces \
     it: unset RUSTFLAGS, or add `--cfg madsim` to it"
);

pub mod checker;
pub mod faults;
pub mod history;
pub mod redis;
pub mod seed;
pub mod world;
