//! A cache of contact records that many instances of an application share through Redis, and that keeps working, on its
//! local disk, while Redis is slow, cut off or gone.

pub mod env;
