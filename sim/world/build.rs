//! Says what to do where the flag is missing under which madsim simulates, before the compiler says a hundred other things.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_MADSIM").is_none() {
        println!(
            "cargo::error=seedbed needs the compiler flag `--cfg madsim`. Write into .cargo/config.toml of the folder that Cargo \
             is started in: [build] rustflags = [\"--cfg\", \"madsim\"]. If it stands there: a RUSTFLAGS variable in the \
             environment replaces it, so unset RUSTFLAGS or add the flag to it; and with --manifest-path Cargo reads the \
             configuration of the folder that it is started in, not of the manifest"
        );
    }
}
