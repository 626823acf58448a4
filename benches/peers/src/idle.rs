//! What a connection costs that does nothing.

use crate::{
    Effort,
    grid::Grid,
    load::{Load, Workload},
    peers::SERVERS,
    server::Server,
};

/// Resident memory.
pub(crate) fn run(effort: Effort) -> Grid {
    let connections = effort.idle_connections();
    let rows: Vec<_> = SERVERS.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    let columns = ["never spoke", "after an echo of 16 KiB"].map(str::to_owned).to_vec();
    let mut grid = Grid::new(rows.clone(), columns);
    for _ in 0..effort.idle_rounds() {
        for (row, (name, _)) in rows.iter().enumerate() {
            let server = Server::start(name);
            let workload = Workload { connections, len: 16 << 10, in_flight: 1 };
            // Code and buffers that the process needs but once.
            let mut few = Load::connect(server.address, Workload { connections: 20, ..workload });
            few.visit_each();
            let before = server.memory();
            let mut load = Load::connect(server.address, workload);
            let each = |memory: u64| memory.saturating_sub(before) as f64 / connections as f64;
            grid.add(row, 0, each(server.memory()));
            load.visit_each();
            grid.add(row, 1, each(server.memory()));
        }
    }
    println!(
        "\n## Idle connections\n\nResident memory of the server process per connection, of {connections}; \
         buffers of the kernel do not count."
    );
    grid.print("KB per connection", |bytes| format!("{:.2}", bytes / 1000.0));
    grid
}
