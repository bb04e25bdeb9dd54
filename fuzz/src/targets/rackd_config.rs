//! `rackd.toml`.

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match farrier_rackd::Config::parse(text) {
        Ok(config) => {
            assert!(farrier_model::is_label(&config.rack));
            for segment in &config.segments {
                assert!(segment.pool.0 <= segment.pool.1 && (8..=30).contains(&segment.prefix));
            }
        }
        Err(error) => drop(farrier_runtime::telemetry::chain(&error)),
    }
}
