//! Drawing in pixels: text, lines, markers, legends, and a frame with two axes.

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle};

use super::axis::LogAxis;
use super::palette::{Look, Marker, Palette};
use super::{Plot, PlotError, Sheet};
use crate::words::wrap;

/// Text and axes; becomes the text colour of the page.
pub(super) const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
/// Grid lines; becomes the grid colour of the page.
pub(super) const GRID: RGBColor = RGBColor(0xd1, 0xd5, 0xdb);
/// The line that must not be crossed.
pub(super) const LIMIT: RGBColor = RGBColor(0xd1, 0x3b, 0x3b);

/// Units of the drawing per pixel: `plotters` draws at whole units, which would be coarse.
pub(super) const SCALE: i32 = 2;
/// Widths in which every picture is drawn, in units: beside another one on a page, and on a phone.
const WIDTHS: [i32; 2] = [1160, 720];
/// Height of a drawing area with two axes.
pub(super) const HEIGHT: i32 = 480;
/// Room around everything.
pub(super) const MARGIN: i32 = 8;
const FONT: i32 = 25;
const TITLE: i32 = 30;
/// From one line of text to the next.
pub(super) const LINE: i32 = 36;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A drawing in progress.
pub(super) struct Canvas<'a> {
    area: Area<'a>,
    title: &'a str,
    /// Width in units.
    pub(super) width: i32,
    /// Where the picture may begin, below the title.
    pub(super) top: i32,
}

/// Draws a picture in every width. `picture` returns how high it has become.
pub(super) fn draw(
    title: &str,
    description: &str,
    picture: impl Fn(&Canvas<'_>) -> Result<i32, PlotError>,
) -> Result<Plot, PlotError> {
    let [wide, narrow] = WIDTHS.map(|width| sheet(title, width, &picture));
    Ok(Plot { title: title.to_owned(), description: description.to_owned(), wide: wide?, narrow: narrow? })
}

fn sheet(
    title: &str,
    width: i32,
    picture: impl Fn(&Canvas<'_>) -> Result<i32, PlotError>,
) -> Result<Sheet, PlotError> {
    let mut svg = String::new();
    let mut height = 0;
    {
        // How high it becomes is known when it is drawn. The library moves what lies below a
        // drawing onto its lower edge, so that edge has to be out of reach.
        let size = (width.unsigned_abs(), 1 << 20);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let mut canvas = Canvas { area, title, width, top: 24 };
        // Bold letters are a tenth wider.
        for line in wrap(title, letters(width - 2 * MARGIN, TITLE * 11 / 10)).lines() {
            canvas.text_sized(line, (MARGIN, canvas.top), HPos::Left, TITLE, INK)?;
            canvas.top += LINE;
        }
        canvas.top += 6;
        height += picture(&canvas)?;
        canvas.checked(canvas.area.present())?;
    }
    // The surrounding element is ours: a page and a file want different ones.
    let start = svg.find('>').map_or(0, |i| i + 1);
    let end = svg.rfind("</svg>").unwrap_or(svg.len());
    Ok(Sheet { width, height, elements: svg[start..end].trim_start().to_owned() })
}

/// `#RRGGBB`, as the drawing library writes it.
pub(super) fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

impl Canvas<'_> {
    fn checked<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Result<T, PlotError> {
        result.map_err(|error| PlotError { title: self.title.to_owned(), message: error.to_string() })
    }

    /// Text, centred vertically at a point.
    pub(super) fn text(&self, text: &str, at: (i32, i32), side: HPos) -> Result<(), PlotError> {
        self.text_sized(text, at, side, FONT, INK)
    }

    fn text_sized(
        &self,
        text: &str,
        at: (i32, i32),
        side: HPos,
        size: i32,
        colour: RGBColor,
    ) -> Result<(), PlotError> {
        let weight = if size == TITLE { FontStyle::Bold } else { FontStyle::Normal };
        let style = ("sans-serif", size, weight).into_font().color(&colour).pos(Pos::new(side, VPos::Center));
        self.checked(self.area.draw(&Text::new(text.to_owned(), at, style)))
    }

    /// Text in the colour of the limit.
    pub(super) fn warning(&self, text: &str, at: (i32, i32), side: HPos) -> Result<(), PlotError> {
        self.text_sized(text, at, side, FONT, LIMIT)
    }

    /// Sentences over the whole width, in as many lines as they need. Returns the height below.
    pub(super) fn note(&self, text: &str, y: i32) -> Result<i32, PlotError> {
        let lines = wrap(text, letters(self.width - 2 * MARGIN, FONT));
        let mut y = y;
        for line in lines.lines() {
            self.text(line, (MARGIN, y), HPos::Left)?;
            y += LINE - 4;
        }
        Ok(y)
    }

    /// A line through points.
    pub(super) fn line(
        &self,
        points: Vec<(i32, i32)>,
        colour: RGBColor,
        width: u32,
    ) -> Result<(), PlotError> {
        let style = colour.stroke_width(width);
        self.checked(self.area.draw(&PathElement::new(points, style)))
    }

    /// A filled rectangle.
    pub(super) fn bar(&self, corners: [(i32, i32); 2], colour: RGBColor) -> Result<(), PlotError> {
        let [(x0, y0), (x1, y1)] = corners;
        let corners = [(x0.min(x1), y0.min(y1)), (x0.max(x1), y0.max(y1))];
        self.checked(self.area.draw(&Rectangle::new(corners, colour.filled())))
    }

    /// The outline of a rectangle.
    pub(super) fn outline(&self, corners: [(i32, i32); 2], colour: RGBColor) -> Result<(), PlotError> {
        self.checked(self.area.draw(&Rectangle::new(corners, colour.stroke_width(2))))
    }

    /// The marker of a backend.
    pub(super) fn marker(&self, (x, y): (i32, i32), r: i32, look: Look) -> Result<(), PlotError> {
        let fill: ShapeStyle = look.colour.filled();
        let polygon = |points: Vec<(i32, i32)>| self.checked(self.area.draw(&Polygon::new(points, fill)));
        match look.marker {
            Marker::Disc => self.checked(self.area.draw(&Circle::new((x, y), r, fill))),
            Marker::Square => self.bar([(x - r, y - r), (x + r, y + r)], look.colour),
            Marker::Triangle => polygon(vec![(x, y - r - 1), (x + r + 1, y + r), (x - r - 1, y + r)]),
            Marker::Diamond => {
                let r = r + 2;
                polygon(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)])
            }
            Marker::Cross => {
                self.line(vec![(x - r, y - r), (x + r, y + r)], look.colour, 4)?;
                self.line(vec![(x - r, y + r), (x + r, y - r)], look.colour, 4)
            }
        }
    }

    /// Backends with their markers, in as many lines as needed below the title. Returns the
    /// height at which the picture may begin.
    pub(super) fn legend(&self, backends: &[&str], palette: &Palette) -> Result<i32, PlotError> {
        let (mut x, mut y) = (20, self.top);
        for backend in backends {
            let width = 34 + width_of(backend) + 26;
            if x > 20 && x + width > self.width {
                (x, y) = (20, y + LINE);
            }
            self.marker((x, y), 8, palette.look(backend))?;
            self.text(backend, (x + 18, y), HPos::Left)?;
            x += width;
        }
        Ok(y + LINE)
    }

    /// The grid, the ticks and the units of a frame.
    pub(super) fn axes(&self, frame: &Frame<'_>) -> Result<(), PlotError> {
        let Frame { left, right, top, bottom, .. } = *frame;
        for tick in frame.x.ticks() {
            let x = frame.x.at(tick);
            self.line(vec![(x, top), (x, bottom)], GRID, 1)?;
            self.text((frame.x_text)(tick).trim(), (x, bottom + 22), HPos::Center)?;
        }
        for tick in frame.y.ticks() {
            let y = frame.y.at(tick);
            self.line(vec![(left, y), (right, y)], GRID, 1)?;
            self.text((frame.y_text)(tick).trim(), (left - 10, y), HPos::Right)?;
        }
        self.line(vec![(left, top), (left, bottom), (right, bottom)], INK, 2)?;
        self.text(frame.x_unit, (right, bottom + 58), HPos::Right)?;
        self.text(frame.y_unit, (MARGIN, top - 22), HPos::Left)
    }
}

/// How many letters of a size fit: at least a few, whatever the room.
fn letters(room: i32, size: i32) -> usize {
    usize::try_from(room * 20 / (size * 11)).unwrap_or(0).max(16)
}

/// An upper estimate of the width of a text: sans-serif letters average half their height.
pub(super) fn width_of(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX / 64) * FONT * 11 / 20
}

/// Two logarithmic axes around a drawing.
pub(super) struct Frame<'a> {
    /// Left edge.
    pub(super) left: i32,
    /// Right edge.
    pub(super) right: i32,
    /// Upper edge; the vertical unit stands above it.
    pub(super) top: i32,
    /// Lower edge.
    pub(super) bottom: i32,
    /// Horizontal axis.
    pub(super) x: LogAxis,
    /// Vertical axis.
    pub(super) y: LogAxis,
    /// Writes a horizontal tick.
    pub(super) x_text: fn(f64) -> String,
    /// Writes a vertical tick.
    pub(super) y_text: fn(f64) -> String,
    /// What the horizontal axis counts.
    pub(super) x_unit: &'a str,
    /// What the vertical axis counts.
    pub(super) y_unit: &'a str,
}

impl Frame<'_> {
    /// The pixel of a point.
    pub(super) fn at(&self, x: f64, y: f64) -> (i32, i32) {
        (self.x.at(x), self.y.at(y))
    }
}
