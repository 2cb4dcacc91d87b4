//! Where a generation's data begin: with which versions of baselines, or with the data of the commit before.

use super::Eyes;
use crate::event::Source;
use crate::facts::{Begun, Carried, EMPTY, EnvRow};
use crate::identity::Trust;
use crate::resource::Kind;
use crate::spec::Origin;

impl EnvRow {
    /// The baseline, or version of one, that a person has chosen for the next generation.
    #[must_use]
    pub fn chosen(&self) -> Option<&str> {
        self.again.as_ref().and_then(|again| again.baseline.as_deref())
    }
}

impl Eyes<'_> {
    /// The versions that a generation of this commit would begin with now: of its database and of its bucket. Foreign code
    /// gets what the operator has set aside for it, whatever it names and whoever chooses.
    pub(super) fn versions(
        &self,
        of: &Origin,
        source: &Source,
        chosen: Option<&str>,
    ) -> Result<(String, String), String> {
        let manifest = source.manifest.as_ref().map_err(Clone::clone)?;
        let project = self.policy().projects.get(&of.project);
        let forks = project.map(|project| project.fork_baseline.as_str()).filter(|_| of.trust.is_foreign());
        let version = |named: &Option<String>| match named {
            Some(named) => self.version_of(forks.or(chosen).unwrap_or(named)),
            None => Ok(EMPTY.to_owned()),
        };
        let (database, objects) = (version(&manifest.database)?, version(&manifest.objects)?);
        // What there is none of is called as the other one.
        Ok(if manifest.database.is_none() { (objects.clone(), objects) } else { (database, objects) })
    }

    /// The first generation of a commit, starting from the data of the commit before if its manifest says so: from the
    /// newest of the same ref that has been ready, if this one descends from it. After a rewrite it starts from the baseline.
    pub(super) fn carried(&self, of: &Origin, begun: Begun) -> Begun {
        self.carries(of, &begun).unwrap_or(begun)
    }

    fn carries(&self, of: &Origin, begun: &Begun) -> Option<Begun> {
        let source = self.buildable(of).ok().filter(|_| of.trust == Trust::Trusted)?;
        source.manifest.as_ref().ok().filter(|manifest| manifest.carry)?;
        let commit = self.commit_of(of)?;
        let refs = commit.open.iter().filter(|(of, _)| !of.foreign);
        let before = refs.filter_map(|(row, _)| {
            let others = row.commits.iter().rev().filter(|listed| listed.sha != of.sha);
            let mut served = others.filter_map(|listed| {
                let other = self.standing.commit(&of.project, &listed.sha)?;
                let row = self.standing.row(other, Trust::Trusted)?;
                Some((listed.sequence, listed.sha, other.ids.at(Trust::Trusted), row, row.serving()?))
            });
            served.next()
        });
        let (_, sha, env, row, generation) = before.max_by_key(|(sequence, ..)| *sequence)?;
        if !source.ancestors.contains(&sha) {
            return None;
        }
        let from = &row.ready.as_ref()?.begun;
        let drawn = self.blueprints.get(env, generation).ok()?;
        let has = |kind| drawn.of(kind).any(|part| self.is_there(&part.id));
        let (database, objects) = (has(Kind::Database), has(Kind::Bucket));
        let carried = Carried { env: env.clone(), generation, sha, database, objects };
        // What is carried on keeps the version that it once began with.
        let baseline = if database { from.baseline.clone() } else { begun.baseline.clone() };
        let bucket = if objects { from.objects() } else { begun.objects() }.to_owned();
        let bucket = Some(bucket).filter(|bucket| *bucket != baseline);
        (database || objects).then(|| Begun { baseline, objects: bucket, carried: Some(carried), ..begun.clone() })
    }

    /// What it was to start from went before it was copied.
    pub(super) fn has_lost_source(&self, row: &EnvRow) -> bool {
        let begun = row.begun.as_ref().filter(|begun| !begun.filled && row.coming().is_some());
        let carried = begun.and_then(|begun| begun.carried.as_ref());
        carried.is_some_and(|from| {
            self.facts().envs.get(&from.env).is_none_or(|source| source.serving() != Some(from.generation))
        })
    }
}
