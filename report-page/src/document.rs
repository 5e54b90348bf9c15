//! The document around a report, and its sections.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// What all reports look like. Colours and line styles are chosen by class: `c0` to `c9` are series, `read` and `write`
/// are modes of a lock.
const STYLE: &str = include_str!("style.css");

/// A whole page. `policy` is what a browser may load and run for it, as in a Content-Security-Policy; `style` is added
/// to that of all reports.
#[must_use]
pub fn document(title: &str, policy: &str, style: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// A part of a report with its heading.
#[must_use]
pub fn section(id: &str, title: &str, content: &Markup) -> Markup {
    html! { section id=(id) aria-labelledby={ (id) "-title" } { h2 id={ (id) "-title" } { (title) } (content) } }
}

/// What is wider than a phone, and does not widen the page.
#[must_use]
pub fn scroll(what: &str, content: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="group" aria-label={ (what) ", can be scrolled sideways" } { (content) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_text_and_a_style_is_none() {
        let page = document("a < b", "default-src 'none'", "p > b { color: red }", &html! { p { "c" } });
        assert!(page.starts_with("<!DOCTYPE html>"));
        assert!(page.contains("<title>a &lt; b</title>") && page.contains("p > b { color: red }</style>"), "{page}");
        assert!(page.contains("Content-Security-Policy\" content=\"default-src 'none'\""), "{page}");
        assert!(page.ends_with("<body><p>c</p></body></html>"), "{page}");
    }

    #[test]
    fn a_section_is_labelled_by_its_heading() {
        let section = section("waits", "Waits", &html! { p { "1" } }).into_string();
        assert!(section.contains("aria-labelledby=\"waits-title\"><h2 id=\"waits-title\">Waits</h2><p>1</p>"));
    }
}
