//! Where a secret comes from. What it is never leaves through `Debug`.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::interpolate::check_name;
use super::reader::{Reader, Value};
use super::refusal::Refusal;

/// More than any token or key, or the certificates of all public authorities.
const SECRET_BYTES_MAX: u64 = 1024 * 1024;

/// A text that is not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn expose(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A string, or `{ env = … }`, `{ file = … }`, `{ credential = … }`.
pub(super) fn string_or_secret(value: &Value<'_>) -> Option<Secret> {
    string_or_secret_beside(value, |_| {})
}

/// The same, where the table may have more keys, which `more` reads.
pub(super) fn string_or_secret_beside<'a>(
    value: &Value<'a>,
    more: impl FnOnce(&Reader<'a>),
) -> Option<Secret> {
    if !value.is_table() {
        return value.text().map(Secret);
    }
    let reader = value.table()?;
    more(&reader);
    let sources = [
        reader.take("env"),
        reader.take("file"),
        reader.take("credential"),
    ];
    let count = sources.iter().flatten().count();
    let others = !reader.all_asked();
    reader.finish();
    if count != 1 && others {
        return None;
    }
    if count != 1 {
        value.error(
            "does not say where the secret is",
            "write one of { env = \"NAME\" }, { file = \"path\" } and { credential = \"name\" }",
        );
        return None;
    }
    let [env, file, credential] = sources;
    let (source, read) = match (env, file, credential) {
        (Some(source), _, _) => (source, from_environment as fn(&Value<'_>, &str) -> _),
        (_, Some(source), _) => (source, from_file as _),
        (_, _, Some(source)) => (source, from_credential as _),
        (None, None, None) => return None,
    };
    let name = source.text()?;
    let read: Result<String, Refusal> = read(&source, &name);
    let secret = source.accept(read)?;
    let secret = secret.strip_suffix('\n').unwrap_or(&secret);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        source.error(
            "names a secret that is empty",
            "put the secret there; one line end behind it does no harm",
        );
        return None;
    }
    Some(Secret(secret.to_owned()))
}

fn from_environment(value: &Value<'_>, name: &str) -> Result<String, Refusal> {
    if check_name(name).is_err() {
        let hint = "write the bare name, without `$` and braces, like { env = \"SHOP_URL\" }";
        return Err(Refusal::new(
            "is not the name of an environment variable",
            hint,
        ));
    }
    value.environment(name).ok_or_else(|| {
        Refusal::new(
            format!("names the environment variable `{name}`, which is not set"),
            "set it before the start; in a unit file, by Environment= or EnvironmentFile=",
        )
    })
}

fn from_file(value: &Value<'_>, name: &str) -> Result<String, Refusal> {
    let folder = value.origin().parent().unwrap_or(Path::new(""));
    let path = folder.join(name);
    value.reads(&path);
    read(&path).map_err(|reason| {
        let hint = match path.exists() {
            true => "it must be a text file that the user Postrider runs as may read",
            false => "a relative path begins at the folder of the configuration file",
        };
        Refusal::new(format!("names the file `{name}`, which {reason}"), hint)
    })
}

fn from_credential(value: &Value<'_>, name: &str) -> Result<String, Refusal> {
    let hint = format!("name it in the unit: LoadCredential={name}:/path/to/the/secret");
    if name.contains('/') || matches!(name, "" | "." | "..") {
        let hint =
            "write the name it has in LoadCredential=, not a path; a path goes into { file = … }";
        return Err(Refusal::new("is not the name of a credential", hint));
    }
    let Some(folder) = value.environment("CREDENTIALS_DIRECTORY") else {
        let message =
            "names a credential, but $CREDENTIALS_DIRECTORY is not set: systemd passed none";
        return Err(Refusal::new(message, hint));
    };
    let path = Path::new(&folder).join(name);
    value.reads(&path);
    read(&path).map_err(|reason| {
        Refusal::new(
            format!("names the credential `{name}`, which {reason}"),
            hint,
        )
    })
}

/// The text in the file at `path`; else why there is none.
pub(super) fn read(path: &Path) -> Result<String, String> {
    const REASONS: [(ErrorKind, &str); 3] = [
        (ErrorKind::NotFound, "does not exist"),
        (ErrorKind::PermissionDenied, "may not be read by this user"),
        (ErrorKind::InvalidData, "is not UTF-8 text"),
    ];
    let reason = |error: std::io::Error| {
        let known = REASONS.iter().find(|(kind, _)| *kind == error.kind());
        known.map_or(format!("cannot be read: {error}"), |(_, reason)| {
            (*reason).to_owned()
        })
    };
    // Opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(reason)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(reason)?;
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(reason)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err("is longer than 1 MiB".to_owned());
    }
    Ok(text)
}
