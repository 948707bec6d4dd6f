//! The frame of a page: one file that loads nothing and runs nothing.

use super::markup::{details, escape};

/// What the page may do: style itself. Whatever a token holds, no browser fetches or runs it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("page.css");
const HELP: &str = include_str!("help.html");

/// A whole page; `body` is markup, `title` is not yet escaped.
pub(super) fn page(title: &str, body: &str, with_rows: bool) -> String {
    let title = escape(title);
    let help =
        if with_rows { details("<h2>How to read this</h2>", HELP, false) } else { String::new() };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n<body>\n<main>\n<h1>{title}</h1>\n{body}{help}\
         <footer>Made by <code>soft report</code> {}. This file is complete in itself.</footer>\n\
         </main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}
