#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rolekeeper_fuzz::upstream_replies::run(bytes));
