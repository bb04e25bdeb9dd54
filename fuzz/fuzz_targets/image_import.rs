//! See `farrier_fuzz::targets::image_import`. `FUZZ_READER_PANICS=1` makes a panic of the qcow2 reader a find.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: {
        if std::env::var_os("FUZZ_READER_PANICS").is_none() {
            std::panic::set_hook(Box::new(|_| {}));
        }
    },
    |data: &[u8]| farrier_fuzz::targets::image_import::run(data)
);
