//! The profiles that this server was started with.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use trace::profile::{Profile, ProfileError};

/// By id with its text, read once at start.
pub struct Profiles(BTreeMap<String, (Arc<Profile>, String)>);

#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    #[error("the directory of profiles cannot be read")]
    Read(#[from] std::io::Error),
    #[error("{file} is not a profile")]
    Profile { file: String, source: ProfileError },
}

impl Profiles {
    /// Every `*.toml` of `dir`.
    pub fn read(dir: &Path) -> Result<Self, ProfilesError> {
        let mut profiles = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let profile = Profile::parse(&text)
                .map_err(|source| ProfilesError::Profile { file: path.display().to_string(), source })?;
            profiles.insert(profile.id().to_owned(), (Arc::new(profile), text));
        }
        Ok(Self(profiles))
    }

    pub fn by_id(&self, id: &str) -> Option<&Arc<Profile>> {
        self.0.get(id).map(|(profile, _)| profile)
    }

    /// The file that the profile was read from, to the byte: its digest stands in records.
    pub fn text(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|(_, text)| text.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.0.values().map(|(profile, _)| profile)
    }
}
