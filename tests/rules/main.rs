//! Rules that the public calls keep whatever happens, each from all sides: what holds after one kind of write holds after every
//! kind, with Redis and without, here and on another instance, before and after a restart.
//!
//! | | |
//! | --- | --- |
//! | [`times`] | first and last time of a record, and the order of its contact points |
//! | [`ends`] | how long a record, its key and its removal last, and who knows it |
//! | [`answers`] | how fresh an answer is, how long it may take, and what it leaves out of account |
//! | [`kept`] | what the local store keeps through a rewrite, a failure of the disk, and its limits |
//!
//! docs/PLANTED.md names those that were seen failing with a bug planted; the others try the siblings of their rules.

#[path = "../stage/mod.rs"]
mod stage;

mod answers;
mod ends;
mod kept;
mod times;
