//! What this project wants to reach, in the same run as the peers.

use crate::grid::{Grid, short};

/// What a figure is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Against {
    /// The best library.
    Peer,
    /// The best library on tokio.
    TokioPeer,
    /// A certain row.
    Row(&'static str),
    /// Nothing; the figure itself counts.
    Alone,
}

/// `ours` at `column` is to be at most so many times the other.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) column: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

const fn target(column: &'static str, ours: &'static str, against: Against, at_most: f64) -> Target {
    Target { column, ours, against, at_most }
}

const VIEW: &str = "coro-websocket, `frame()`";
const STREAM: &str = "coro-websocket, Stream";
const WRITER: &str = "coro-websocket, FrameWriter";
const WRITE: &str = "coro-websocket, Write";

pub(crate) const CODEC: &[Target] = &[
    target("decode masked 16 B", VIEW, Against::Peer, 0.55),
    target("decode masked 16 B", STREAM, Against::Peer, 0.9),
    target("decode masked 125 B", VIEW, Against::Peer, 0.55),
    target("decode masked 125 B", STREAM, Against::Peer, 0.9),
    target("decode masked 1 KiB", VIEW, Against::Peer, 0.75),
    target("decode masked 1 KiB", STREAM, Against::Peer, 0.9),
    target("decode masked 16 KiB", VIEW, Against::Peer, 0.9),
    target("decode masked 16 KiB", STREAM, Against::Peer, 0.9),
    target("decode masked 1 MiB", VIEW, Against::Peer, 0.9),
    target("decode masked 1 MiB", STREAM, Against::Peer, 0.9),
    target("decode lem's frames", VIEW, Against::Peer, 0.9),
    target("decode lem's frames", STREAM, Against::Peer, 0.9),
    target("encode 125 B", WRITER, Against::Alone, 15.0),
    target("encode 125 B", WRITE, Against::Alone, 35.0),
    target("encode 16 KiB", WRITER, Against::Alone, 15.0),
    target("encode 16 KiB", WRITE, Against::Alone, 35.0),
    target("encode 1 MiB", WRITER, Against::Alone, 15.0),
    target("encode 1 MiB", WRITE, Against::Alone, 35.0),
    target("encode masked 125 B", WRITER, Against::Peer, 1.0),
    target("encode masked 125 B", WRITE, Against::Peer, 1.0),
    target("encode masked 16 KiB", WRITER, Against::Peer, 0.8),
    target("encode masked 16 KiB", WRITE, Against::Peer, 0.8),
    target("encode masked 1 MiB", WRITER, Against::Peer, 0.95),
    target("encode masked 1 MiB", WRITE, Against::Peer, 0.95),
];

const OURS: &str = "coro-websocket";
const ON_TOKIO: &str = "coro-websocket on tokio";
const SMOL: Against = Against::Row("limit-smol");
const TOKIO: Against = Against::Row("limit-tokio");

pub(crate) const ECHO: &[Target] = &[
    target("1×16 B", OURS, SMOL, 1.05),
    target("1×16 B, 64 in flight", OURS, SMOL, 1.1),
    target("64×125 B", OURS, SMOL, 0.9),
    target("500×1 KiB", OURS, SMOL, 1.05),
    target("8×16 KiB", OURS, SMOL, 1.05),
    target("8×16 KiB", OURS, Against::Peer, 1.0),
    target("2×1 MiB", OURS, SMOL, 1.05),
    target("2×1 MiB", OURS, Against::Peer, 1.0),
    target("1×16 B", ON_TOKIO, TOKIO, 1.1),
    target("1×16 B, 64 in flight", ON_TOKIO, TOKIO, 1.1),
    target("64×125 B", ON_TOKIO, TOKIO, 1.1),
    target("500×1 KiB", ON_TOKIO, TOKIO, 1.1),
    target("8×16 KiB", ON_TOKIO, TOKIO, 1.1),
    target("2×1 MiB", ON_TOKIO, TOKIO, 1.1),
    target("1×16 B", ON_TOKIO, Against::TokioPeer, 1.0),
    target("1×16 B, 64 in flight", ON_TOKIO, Against::TokioPeer, 1.0),
    target("64×125 B", ON_TOKIO, Against::TokioPeer, 1.0),
    target("500×1 KiB", ON_TOKIO, Against::TokioPeer, 1.0),
    target("8×16 KiB", ON_TOKIO, Against::TokioPeer, 1.0),
    target("2×1 MiB", ON_TOKIO, Against::TokioPeer, 1.0),
];

pub(crate) const CALLS: &[Target] =
    &[target("64×125 B", OURS, Against::Row("limit-smol, readiness awaited"), 1.0)];

pub(crate) const DEFLATE: &[Target] = &[
    target("1×1 KiB deflated", "coro-websocket, level 2", Against::Row("yawc, level 2"), 1.0),
    target("1×1 KiB deflated", "coro-websocket, level 2", Against::Row("yawc, level 6"), 1.0),
    target("1×1 KiB deflated", "coro-websocket, level 6", Against::Row("yawc, level 6"), 1.0),
    target("64×1 KiB deflated", "coro-websocket, level 2", Against::Row("yawc, level 2"), 1.0),
    target("64×1 KiB deflated", "coro-websocket, level 2", Against::Row("yawc, level 6"), 1.0),
    target("64×1 KiB deflated", "coro-websocket, level 6", Against::Row("yawc, level 6"), 1.0),
];

pub(crate) const IDLE: &[Target] = &[
    target("never spoke", OURS, Against::Alone, 2300.0),
    target("after an echo of 16 KiB", OURS, Against::Alone, 2500.0),
    target("never spoke", ON_TOKIO, Against::Alone, 2300.0),
    target("after an echo of 16 KiB", ON_TOKIO, Against::Alone, 2500.0),
];

/// Prints a line for each target of which there are figures.
pub(crate) fn print(title: &str, targets: &[Target], grids: &[&Grid]) {
    println!(
        "\n### {title}\n\n| workload | | against | measured (95 %) | to reach | |\n|---|---|---|---|---|---|"
    );
    for target in targets {
        let Target { column, ours, .. } = *target;
        let Some(grid) = grids.iter().find(|grid| grid.estimate(ours, column).is_some()) else { continue };
        let other = match target.against {
            Against::Peer => grid.best_peer(column, false),
            Against::TokioPeer => grid.best_peer(column, true),
            Against::Row(row) => Some(row),
            Against::Alone => None,
        };
        let (against, estimate, shown) = match other {
            Some(other) => {
                let ratio = grid.ratio(ours, other, column);
                (other, ratio, ratio.map(|ratio| ratio.to_string()))
            }
            None => {
                let figure = grid.estimate(ours, column);
                let shown = figure.map(|it| [it.median, it.low, it.high].map(short));
                ("", figure, shown.map(|[median, low, high]| format!("{median} ({low}–{high})")))
            }
        };
        let (Some(estimate), Some(shown)) = (estimate, shown) else { continue };
        let verdict = match target.at_most {
            most if estimate.high <= most => "reached",
            most if estimate.low > most => "missed",
            most if estimate.median <= most => "reached, not surely",
            _ => "missed, not surely",
        };
        println!("| {column} | {ours} | {against} | {shown} | ≤ {} | {verdict} |", target.at_most);
    }
}
