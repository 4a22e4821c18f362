//! Has a command carried out: by the running server, over its control socket, or on the database when none runs.

use rookery::control::{AskError, ask};
use rookery::database;
use rookery_core::config::{Backend, Conf};
use rookery_core::control::{AccountCommands, CommandCondition, CommandError, Commands, Reply, Request};
use rookery_modules::muc::StoppedRooms;

use super::{complain, runtime};

/// What a command comes to.
pub(super) fn carry_out(conf: &Conf, request: Request) -> Result<Reply, CommandError> {
    let failed = |text| CommandError::new(CommandCondition::InternalServerError, text);
    runtime().map_err(failed)?.block_on(ask_or_open(conf, request))
}

async fn ask_or_open(conf: &Conf, request: Request) -> Result<Reply, CommandError> {
    let data = &conf.server().data;
    match ask(data, &request).await {
        Ok(reply) => Ok(reply),
        Err(AskError::Refused(error)) => Err(error),
        Err(AskError::NotRunning) => carry_out_alone(conf, request).await,
        Err(AskError::Io(error)) => {
            let text = match error.kind() {
                std::io::ErrorKind::PermissionDenied => format!(
                    "the server's control socket in {} belongs to another user; run this as that user (sudo -u rookery ...)",
                    data.display()
                ),
                _ => format!("the running server does not answer on its control socket in {}: {error}", data.display()),
            };
            Err(CommandError::new(CommandCondition::ServiceUnavailable, text))
        }
    }
}

/// No server runs: the database itself.
async fn carry_out_alone(conf: &Conf, request: Request) -> Result<Reply, CommandError> {
    let failed = |text| CommandError::new(CommandCondition::ServiceUnavailable, text);
    if matches!(request, Request::S2s(_)) {
        return Err(failed("no server runs, so there are no streams to other servers".to_owned()));
    }
    let file = &conf.store().path;
    let is_new = conf.store().backend == Backend::Sqlite && !file.exists();
    if is_new && !matches!(request, Request::UserAdd { .. }) {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        return Err(failed(format!("no server runs, and there is no database {} yet", file.display())));
    }
    refuse_as_other_user(conf).map_err(failed)?;
    let store = database::open(conf.store()).await.map_err(|error| failed(error.to_string()))?;
    let result = match request {
        Request::Room(request) => match StoppedRooms::new(conf, store.clone()) {
            Ok(rooms) => rooms.run(request).await.map(Reply::Room),
            Err(error) => Err(failed(error.to_string())),
        },
        request => AccountCommands::new(conf, store.clone()).run(request).await,
    };
    store.close().await;
    if is_new && result.is_ok() {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        complain(&format!("note: no server runs; the account is in the new database {}", file.display()));
    }
    result
}

/// Root would leave files behind that the server's user cannot write.
fn refuse_as_other_user(conf: &Conf) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let data = &conf.server().data;
    let (Ok(own), Ok(folder)) = (std::fs::metadata("/proc/self"), std::fs::metadata(data)) else { return Ok(()) };
    if conf.store().backend == Backend::Sqlite && own.uid() == 0 && folder.uid() != 0 {
        let owner = folder.uid();
        return Err(format!(
            "the data folder {} belongs to user {owner}; run this as that user (sudo -u '#{owner}' ...)",
            data.display()
        ));
    }
    Ok(())
}
