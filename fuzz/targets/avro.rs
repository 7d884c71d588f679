//! libFuzzer's way into `fuzz::avro`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::avro(data));
