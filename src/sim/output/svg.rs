//! Pictures of lines and dots, as SVG.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::OutputError;

const SIZE: (u32, u32) = (720, 440);
/// Colours told apart by people who see fewer of them (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(80, 80, 80),
];

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dots: bool,
    pub line: bool,
}

impl Line {
    /// Measured points.
    pub fn dots(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points, dots: true, line: false }
    }

    /// Measured points, joined.
    pub fn joined(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { dots: true, line: true, ..Self::dots(name, points) }
    }

    /// A curve.
    pub fn solid(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { dots: false, line: true, ..Self::dots(name, points) }
    }
}

/// One picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    pub name: String,
    pub title: String,
    pub x: (String, Scale),
    pub y: (String, Scale),
    pub lines: Vec<Line>,
}

impl Plot {
    /// Draws it.
    ///
    /// # Errors
    /// When the drawing fails.
    pub fn svg(&self) -> Result<String, OutputError> {
        let mut out = String::new();
        let drawn = {
            let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
            self.draw(&root).and_then(|()| root.present().map_err(|e| e.to_string()))
        };
        drawn.map_err(|e| OutputError::Plot(self.name.clone(), e))?;
        Ok(out)
    }

    fn draw(&self, root: &DrawingArea<SVGBackend, Shift>) -> Result<(), String> {
        root.fill(&WHITE).map_err(|e| e.to_string())?;
        let x = self.range(|p| p.0, self.x.1);
        let y = self.range(|p| p.1, self.y.1);
        match (self.x.1, self.y.1) {
            (Scale::Linear, Scale::Linear) => self.chart(root, x.0..x.1, y.0..y.1),
            (Scale::Log, Scale::Linear) => self.chart(root, (x.0..x.1).log_scale(), y.0..y.1),
            (Scale::Linear, Scale::Log) => self.chart(root, x.0..x.1, (y.0..y.1).log_scale()),
            (Scale::Log, Scale::Log) => self.chart(root, (x.0..x.1).log_scale(), (y.0..y.1).log_scale()),
        }
    }

    /// What an axis spans: all points, and with a linear one zero as well.
    fn range(&self, of: impl Fn(&(f64, f64)) -> f64, scale: Scale) -> (f64, f64) {
        let all = self.lines.iter().flat_map(|l| l.points.iter().map(&of)).filter(|v| v.is_finite());
        let values: Vec<f64> = all.filter(|v| scale == Scale::Linear || *v > 0.0).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match scale {
            _ if values.is_empty() => (0.1, 1.0),
            Scale::Linear => (low.min(0.0), if high > low.min(0.0) { high * 1.05 } else { 1.0 }),
            Scale::Log => (low / 1.3, (high * 1.3).max(low * 1.7)),
        }
    }

    fn chart<X, Y>(&self, root: &DrawingArea<SVGBackend, Shift>, x: X, y: Y) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let text = |e: DrawingAreaErrorKind<std::io::Error>| e.to_string();
        let mut chart = ChartBuilder::on(root)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(x, y)
            .map_err(text)?;
        let label = |v: &f64| number(*v);
        chart
            .configure_mesh()
            .x_desc(&self.x.0)
            .y_desc(&self.y.0)
            .x_label_formatter(&label)
            .y_label_formatter(&label)
            .light_line_style(WHITE)
            .draw()
            .map_err(text)?;
        for (i, l) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let shown =
                |p: &&(f64, f64)| (self.x.1 == Scale::Linear || p.0 > 0.0) && (self.y.1 == Scale::Linear || p.1 > 0.0);
            let points: Vec<(f64, f64)> = l.points.iter().filter(shown).copied().collect();
            if l.line {
                chart
                    .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
                    .map_err(text)?
                    .label(&l.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            }
            if l.dots {
                let dots = points.iter().map(|p| Circle::new(*p, 4, colour.filled()));
                let series = chart.draw_series(dots).map_err(text)?;
                if !l.line {
                    series.label(&l.name).legend(move |(x, y)| Circle::new((x + 9, y), 4, colour.filled()));
                }
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .draw()
            .map_err(text)
    }
}

/// As short as it can be read.
fn number(v: f64) -> String {
    match v.abs() {
        a if a >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        a if a >= 1e4 => format!("{}k", trimmed(v / 1e3)),
        _ => trimmed(v),
    }
}

fn trimmed(v: f64) -> String {
    let text = format!("{v:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_points_make_a_picture_and_the_same_ones_the_same() {
        for scale in [Scale::Linear, Scale::Log] {
            for points in [vec![], vec![(0.0, 0.0)], vec![(1.0, 2.0)], vec![(1.0, -2.0), (10.0, 1e6), (f64::NAN, 1.0)]]
            {
                let plot = Plot {
                    name: "p".into(),
                    title: "A & B".into(),
                    x: ("x".into(), scale),
                    y: ("y".into(), scale),
                    lines: vec![Line::joined("one", points.clone()), Line::solid("two", points)],
                };
                let svg = plot.svg().unwrap();
                assert!(svg.starts_with("<svg") && svg.contains("A &amp; B") && svg.len() < 60_000);
                assert_eq!(svg, plot.svg().unwrap());
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.5, 10.0, 12_000.0, 1e6, -0.0001].map(number), ["0.5", "10", "12k", "1M", "0"]);
    }
}
