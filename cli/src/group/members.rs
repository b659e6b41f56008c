//! `sawlog group members`: who is in a group, and what each reads; members to be removed.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use sawlog_client::{Client, GroupInfo, GroupMember, MemberToRemove};
use serde_json::json;

use super::known;
use crate::failure::{Failure, Kind, say};
use crate::output::{Output, Rows};
use crate::topic::confirm_to;

/// What members are told why they were removed.
const REASON: &str = "removed by an operator (sawlog group members --remove)";

/// Show the members of a group and what each of them reads, or remove some
#[derive(Debug, Args)]
pub(crate) struct Members {
    /// The group
    #[arg(add = ArgValueCandidates::new(crate::complete::groups))]
    group: String,
    /// Remove the member with this member id or group.instance.id; may be given several times. One
    /// that still runs joins again: stop it first
    #[arg(long, value_name = "MEMBER", conflicts_with = "remove_all")]
    remove: Vec<String>,
    /// Remove all members
    #[arg(long)]
    remove_all: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only say who would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

impl Members {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let group = known(client, &self.group).await?;
        if self.remove.is_empty() && !self.remove_all {
            if self.dry_run || self.yes {
                return Err(Failure::usage("whom to remove? give --remove MEMBER or --remove-all"));
            }
            let shown: Vec<&GroupMember> = group.members.iter().collect();
            return self.output.print(&table(&shown));
        }
        let gone = self.chosen(&group)?;
        if !self.dry_run {
            self.remove(client, &gone).await?;
        }
        self.output.print(&table(&gone))?;
        if self.dry_run {
            say("nobody was removed: --dry-run");
        }
        Ok(())
    }

    /// The members asked for, all of which must be there.
    fn chosen<'a>(&self, group: &'a GroupInfo) -> Result<Vec<&'a GroupMember>, Failure> {
        if self.remove_all {
            return Ok(group.members.iter().collect());
        }
        let names = |member: &'a GroupMember| {
            std::iter::once(member.member_id.as_str()).chain(member.instance_id.as_deref())
        };
        let find = |wanted: &String| {
            let found = group.members.iter().find(|member| names(member).any(|n| n == wanted));
            found.ok_or_else(|| {
                let all = group.members.iter().flat_map(names);
                let hint = match sawlog_broker::config::suggest(wanted, all) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("see `sawlog group members {}`", self.group),
                };
                let name = &self.group;
                Failure::not_found(format!("group \"{name}\" has no member \"{wanted}\"; {hint}"))
            })
        };
        self.remove.iter().map(find).collect()
    }

    async fn remove(&self, client: &Client, gone: &[&GroupMember]) -> Result<(), Failure> {
        if gone.is_empty() {
            return Ok(());
        }
        if !self.yes {
            let members = if gone.len() == 1 { "member" } else { "members" };
            let what = format!("remove {} {members} of group \"{}\"", gone.len(), self.group);
            confirm_to(&self.group, &what)?;
        }
        let members: Vec<MemberToRemove> = gone
            .iter()
            .map(|member| match &member.instance_id {
                Some(instance) => MemberToRemove::Instance(instance.clone()),
                None => MemberToRemove::Member(member.member_id.clone()),
            })
            .collect();
        let outcomes = client.remove_members(&self.group, &members, REASON).await?;
        let count = outcomes.len();
        let mut failures: Vec<Failure> =
            outcomes.into_iter().filter_map(|outcome| Some(outcome.err()?.into())).collect();
        match failures.len() {
            0 => Ok(()),
            failed if failed < count => Err(Failure::new(
                Kind::Partial,
                format!("{failed} of {count} members of \"{}\" could not be removed", self.group),
            )),
            _ => Err(failures.remove(0).while_doing("cannot remove the members")),
        }
    }
}

fn table(members: &[&GroupMember]) -> Rows {
    let mut rows = Rows::new(&[
        "member",
        "instance",
        "client",
        "host",
        "rack",
        "epoch",
        "count",
        "partitions",
        "topics",
    ]);
    for member in members {
        let partitions = member.partitions.iter().map(|(topic, index)| format!("{topic}-{index}"));
        let wanted = member.topics.iter().cloned();
        let regex = member.topic_regex.iter().map(|regex| format!("/{regex}/"));
        rows.push(vec![
            json!(member.member_id),
            json!(member.instance_id),
            json!(member.client_id),
            json!(member.host),
            json!(member.rack),
            json!(member.epoch),
            json!(member.partitions.len()),
            json!(partitions.collect::<Vec<_>>()),
            json!(wanted.chain(regex).collect::<Vec<_>>()),
        ]);
    }
    rows
}
