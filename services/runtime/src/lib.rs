//! What every service needs: start, layers, status map, paging, shutdown, telemetry.
