//! Lines over two logarithmic axes, as SVG.

use std::{fmt::Write, fs, path::Path};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
/// Around the area of the lines; the legend is at the right.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLORS: [&str; 6] = ["#888888", "#bbbbbb", "#c0392b", "#e67e22", "#2471a3", "#229954"];

/// Lines with their names; a point is a place on the horizontal axis and a value.
pub(crate) fn write(file: &Path, title: &str, axes: [&str; 2], lines: &[(String, Vec<(f64, f64)>)]) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, draw(title, axes, lines)).unwrap();
}

fn draw(title: &str, [horizontal, vertical]: [&str; 2], lines: &[(String, Vec<(f64, f64)>)]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let x = Axis::over(points().map(|(x, _)| *x), LEFT, WIDTH - RIGHT);
    let y = Axis::over(points().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' \
         font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n\
         <text x='{LEFT}' y='22' font-size='15'>{title}</text>\n"
    );
    let mut put = |element: String| writeln!(svg, "{element}").unwrap();
    for tick in x.ticks() {
        let at = x.place(tick);
        put(format!("<path d='M{at:.1} {TOP}V{}' stroke='#eee'/>", HEIGHT - BOTTOM));
        put(format!(
            "<text x='{at:.1}' y='{}' text-anchor='middle'>{}</text>",
            HEIGHT - BOTTOM + 17.0,
            label(tick)
        ));
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        put(format!("<path d='M{LEFT} {at:.1}H{}' stroke='#eee'/>", WIDTH - RIGHT));
        put(format!("<text x='{}' y='{:.1}' text-anchor='end'>{}</text>", LEFT - 6.0, at + 4.0, label(tick)));
    }
    put(format!("<text x='{}' y='{}' text-anchor='end'>{horizontal}</text>", WIDTH - RIGHT, HEIGHT - 12.0));
    put(format!("<text x='{LEFT}' y='{}' fill='#555'>{vertical}</text>", TOP - 4.0));
    for (number, (name, points)) in lines.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let places: Vec<_> =
            points.iter().map(|(px, py)| format!("{:.1},{:.1}", x.place(*px), y.place(*py))).collect();
        let places = places.join(" ");
        put(format!("<polyline points='{places}' fill='none' stroke='{color}' stroke-width='2'/>"));
        let (at, height) = (WIDTH - RIGHT + 20.0, TOP + 14.0 + 20.0 * number as f64);
        put(format!("<path d='M{at} {}h18' stroke='{color}' stroke-width='2'/>", height - 4.0));
        put(format!("<text x='{}' y='{height}'>{name}</text>", at + 24.0));
    }
    svg + "</svg>\n"
}

/// From one power of ten to another.
struct Axis {
    low: i32,
    high: i32,
    start: f64,
    end: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
        let high = values.fold(0.0, f64::max).log10().ceil() as i32;
        Self { low, high: high.max(low + 1), start, end }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.start + part * (self.end - self.start)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|power| 10_f64.powi(power))
    }
}

fn label(tick: f64) -> String {
    match tick {
        1e9.. => format!("{}G", tick / 1e9),
        1e6.. => format!("{}M", tick / 1e6),
        1e3.. => format!("{}k", tick / 1e3),
        _ => tick.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_logarithmic() {
        let axis = Axis::over([2.0, 900.0].into_iter(), 0.0, 30.0);
        assert_eq!(
            [1.0, 10.0, 100.0, 1000.0].map(|value| axis.place(value).round()),
            [0.0, 10.0, 20.0, 30.0]
        );
        assert_eq!([1.0, 10.0, 1e5, 1e7].map(label), ["1", "10", "100k", "10M"]);
    }
}
