//! Drawings for a page, which holds hundreds of them: the same shapes in a third of the letters.
//!
//! The drawing library writes an element with all its attributes for every stroke and every word.
//! Here shapes of one look that follow each other become one path, and words take their font from
//! the page's style sheet. Words come last, so nothing covers them.

use super::canvas::{GRID, INK, LIMIT, hex};

/// Elements of a drawing, as the library writes them, in the colours of the page.
pub(super) fn compact(elements: &str) -> String {
    let mut shapes: Vec<(String, String)> = Vec::new();
    let mut words = String::new();
    // A `<` in a text is escaped, so each one begins an element or ends one.
    for element in elements.split('<').filter(|element| !element.is_empty() && !element.starts_with('/')) {
        if let Some((tag, text)) = element.split_once('>').filter(|_| element.starts_with("text ")) {
            words.push_str(&word(tag, text.trim()));
        } else if let Some((look, path)) = shape(element) {
            match shapes.last_mut() {
                Some((last, paths)) if *last == look => paths.push_str(&path),
                _ => shapes.push((look, path)),
            }
        } else {
            // An element that is not known here stands for itself, with its look as its name.
            shapes.push((format!("<{}", element.trim_end()), String::new()));
        }
    }
    let mut out = String::new();
    for (look, path) in shapes {
        if path.is_empty() {
            out.push_str(&look);
        } else {
            out.push_str(&format!("<path {look} d=\"{path}\"/>"));
        }
    }
    out + &words
}

/// The attributes that say how a shape looks, and its outline.
fn shape(element: &str) -> Option<(String, String)> {
    let get = |name| attribute(element, name);
    let colour = |name| get(name).filter(|colour| *colour != "none").map(on_page);
    let stroke = |width: &str| Some(format!("stroke=\"{}\" stroke-width=\"{width}\"", colour("stroke")?));
    let fill = || Some(format!("fill=\"{}\"", colour("fill")?));
    let number = |name| get(name)?.parse::<i32>().ok();
    let points = || Some(format!("M{}", get("points")?.trim_end()));
    match element.split(' ').next()? {
        "polyline" => Some((stroke(get("stroke-width")?)?, points()?)),
        "polygon" => Some((fill()?, format!("{}z", points()?))),
        "rect" => {
            let (width, height) = (number("width")?, number("height")?);
            let look = fill().or_else(|| stroke(get("stroke-width").unwrap_or("1")))?;
            Some((look, format!("M{},{}h{width}v{height}h-{width}z", get("x")?, get("y")?)))
        }
        // A line without length and with round ends.
        "circle" => {
            let look =
                format!("stroke=\"{}\" stroke-width=\"{}\" class=\"o\"", colour("fill")?, 2 * number("r")?);
            Some((look, format!("M{},{}h0", get("cx")?, get("cy")?)))
        }
        _ => None,
    }
}

/// A text at its place; what it looks like is said by classes.
fn word(tag: &str, text: &str) -> String {
    let mut classes = Vec::new();
    match attribute(tag, "text-anchor") {
        Some("middle") => classes.push("m"),
        Some("end") => classes.push("e"),
        _ => {}
    }
    if attribute(tag, "font-weight").is_some() {
        classes.push("t");
    }
    if attribute(tag, "fill") == Some(&hex(LIMIT)) {
        classes.push("l");
    }
    let class = if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) };
    let at = |name| attribute(tag, name).unwrap_or("0");
    format!("<text x=\"{}\" y=\"{}\"{class}>{text}</text>", at("x"), at("y"))
}

/// The page's own colours for ink, grid and limit, which differ on light and dark.
fn on_page(colour: &str) -> &str {
    match colour {
        _ if colour == hex(INK) => "currentColor",
        _ if colour == hex(GRID) => "var(--grid)",
        _ if colour == hex(LIMIT) => "var(--bad)",
        _ => colour,
    }
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_one_look_are_one_path_and_words_come_last() {
        let drawn = "<polyline fill=\"none\" stroke=\"#D1D5DB\" stroke-width=\"1\" points=\"1,2 3,4 \"/>\n\
                     <text x=\"9\" y=\"8\" dy=\"0.5ex\" text-anchor=\"end\" fill=\"#1F2937\">\na &lt; b\n</text>\n\
                     <polyline fill=\"none\" stroke=\"#D1D5DB\" stroke-width=\"1\" points=\"5,6 7,8 \"/>\n\
                     <rect x=\"1\" y=\"2\" width=\"3\" height=\"4\" fill=\"#0072B2\" stroke=\"none\"/>\n\
                     <circle cx=\"1\" cy=\"2\" r=\"7\" fill=\"#0072B2\" stroke=\"none\" stroke-width=\"1\"/>\n\
                     <ellipse rx=\"1\"/>\n";
        let expected = "<path stroke=\"var(--grid)\" stroke-width=\"1\" d=\"M1,2 3,4M5,6 7,8\"/>\
                        <path fill=\"#0072B2\" d=\"M1,2h3v4h-3z\"/>\
                        <path stroke=\"#0072B2\" stroke-width=\"14\" class=\"o\" d=\"M1,2h0\"/>\
                        <ellipse rx=\"1\"/>\
                        <text x=\"9\" y=\"8\" class=\"e\">a &lt; b</text>";
        assert_eq!(compact(drawn), expected);
    }
}
