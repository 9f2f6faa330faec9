//! The demo: the main job on real programs, told as it happens.

mod screen;
mod story;

pub use story::{Options, tell};
