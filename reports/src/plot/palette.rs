//! One colour and one marker per backend, the same in every picture.

use plotters::style::RGBColor;

/// The shape of a point: a second way to tell backends apart, for those who do not see the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A filled disc.
    Disc,
    /// A filled square.
    Square,
    /// A filled triangle, tip up.
    Triangle,
    /// A filled square on its corner.
    Diamond,
    /// Two crossed lines.
    Cross,
}

/// How a backend is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its colour, readable on white and on near-black (contrast of at least 3 with both).
    pub colour: RGBColor,
    /// Its marker.
    pub marker: Marker,
}

impl Look {
    /// The colour as `#RRGGBB`.
    #[must_use]
    pub fn hex(&self) -> String {
        let RGBColor(r, g, b) = self.colour;
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

/// The looks of the backends of one report. No two share a colour.
#[derive(Clone, Debug, Default)]
pub struct Palette(Vec<(String, Look)>);

/// Colours for backends that have none of their own, and for a second device of one that has.
const OTHERS: [RGBColor; 6] = [
    RGBColor(166, 97, 26),
    RGBColor(92, 138, 0),
    RGBColor(209, 73, 91),
    RGBColor(0, 139, 149),
    RGBColor(150, 110, 220),
    RGBColor(150, 130, 60),
];

/// The fixed colours, after Okabe and Ito's set for colour-blind readers, darkened where theirs
/// would vanish on white.
fn fixed(backend: &str) -> Option<Look> {
    let look = |r, g, b, marker| Some(Look { colour: RGBColor(r, g, b), marker });
    let family = backend.split('/').next().unwrap_or(backend);
    match (family, backend) {
        ("naive", _) => look(128, 134, 145, Marker::Cross),
        (_, "simd/avx2") => look(58, 155, 217, Marker::Triangle),
        (_, "simd/scalar") => look(106, 111, 208, Marker::Triangle),
        ("simd", _) => look(0, 114, 178, Marker::Disc),
        ("candle", _) => look(199, 124, 0, Marker::Square),
        ("libtorch", _) => look(184, 80, 156, Marker::Diamond),
        ("onnxruntime", _) => look(0, 158, 115, Marker::Square),
        _ => None,
    }
}

impl Palette {
    /// Gives each backend its look; colours that are taken fall back to the spare ones.
    #[must_use]
    pub fn new(backends: &[String]) -> Self {
        let mut looks: Vec<(String, Look)> = Vec::new();
        let mut spare = OTHERS.into_iter();
        for backend in backends {
            let taken = |colour| looks.iter().any(|(_, look)| look.colour == colour);
            let look = match fixed(backend) {
                Some(look) if !taken(look.colour) => look,
                own => {
                    // More backends than colours: shift one step, unseen by the eye, so that
                    // the page can still tell the marks of one backend from another's.
                    let step = u8::try_from(looks.len()).unwrap_or(u8::MAX);
                    Look {
                        colour: spare.next().unwrap_or(RGBColor(100, 100 + step % 100, 120)),
                        marker: own.map_or(Marker::Disc, |look| look.marker),
                    }
                }
            };
            looks.push((backend.clone(), look));
        }
        Self(looks)
    }

    /// How to draw a backend.
    #[must_use]
    pub fn look(&self, backend: &str) -> Look {
        let found = self.0.iter().find(|(name, _)| name == backend);
        found.map_or(Look { colour: OTHERS[0], marker: Marker::Disc }, |(_, look)| *look)
    }
}
