//! The methods and notifications of every revision (digest c.0).

use super::Version;

/// A method a client may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the specification's own; see `as_str`.
pub enum Method {
    Initialize,
    Discover,
    Ping,
    ToolsList,
    ToolsCall,
    ResourcesList,
    ResourceTemplatesList,
    ResourcesRead,
    ResourcesSubscribe,
    ResourcesUnsubscribe,
    Listen,
    PromptsList,
    PromptsGet,
    Complete,
    SetLevel,
    TasksGet,
    TasksUpdate,
    TasksCancel,
    TasksList,
    TasksResult,
    /// Anything else.
    Unknown,
}

impl Method {
    /// Every known method; `self as usize` is the index.
    pub const ALL: [Method; 20] = [
        Method::Initialize,
        Method::Discover,
        Method::Ping,
        Method::ToolsList,
        Method::ToolsCall,
        Method::ResourcesList,
        Method::ResourceTemplatesList,
        Method::ResourcesRead,
        Method::ResourcesSubscribe,
        Method::ResourcesUnsubscribe,
        Method::Listen,
        Method::PromptsList,
        Method::PromptsGet,
        Method::Complete,
        Method::SetLevel,
        Method::TasksGet,
        Method::TasksUpdate,
        Method::TasksCancel,
        Method::TasksList,
        Method::TasksResult,
    ];

    /// The method with this name.
    pub fn parse(name: &str) -> Method {
        match name {
            "initialize" => Method::Initialize,
            "server/discover" => Method::Discover,
            "ping" => Method::Ping,
            "tools/list" => Method::ToolsList,
            "tools/call" => Method::ToolsCall,
            "resources/list" => Method::ResourcesList,
            "resources/templates/list" => Method::ResourceTemplatesList,
            "resources/read" => Method::ResourcesRead,
            "resources/subscribe" => Method::ResourcesSubscribe,
            "resources/unsubscribe" => Method::ResourcesUnsubscribe,
            "subscriptions/listen" => Method::Listen,
            "prompts/list" => Method::PromptsList,
            "prompts/get" => Method::PromptsGet,
            "completion/complete" => Method::Complete,
            "logging/setLevel" => Method::SetLevel,
            "tasks/get" => Method::TasksGet,
            "tasks/update" => Method::TasksUpdate,
            "tasks/cancel" => Method::TasksCancel,
            "tasks/list" => Method::TasksList,
            "tasks/result" => Method::TasksResult,
            _ => Method::Unknown,
        }
    }

    /// The name on the wire; `unknown` for [`Method::Unknown`] (fit for a metric's label).
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Initialize => "initialize",
            Method::Discover => "server/discover",
            Method::Ping => "ping",
            Method::ToolsList => "tools/list",
            Method::ToolsCall => "tools/call",
            Method::ResourcesList => "resources/list",
            Method::ResourceTemplatesList => "resources/templates/list",
            Method::ResourcesRead => "resources/read",
            Method::ResourcesSubscribe => "resources/subscribe",
            Method::ResourcesUnsubscribe => "resources/unsubscribe",
            Method::Listen => "subscriptions/listen",
            Method::PromptsList => "prompts/list",
            Method::PromptsGet => "prompts/get",
            Method::Complete => "completion/complete",
            Method::SetLevel => "logging/setLevel",
            Method::TasksGet => "tasks/get",
            Method::TasksUpdate => "tasks/update",
            Method::TasksCancel => "tasks/cancel",
            Method::TasksList => "tasks/list",
            Method::TasksResult => "tasks/result",
            Method::Unknown => "unknown",
        }
    }

    /// Whether a revision has this method. Having it is not offering it: that is for the
    /// capabilities to say.
    pub fn served_by(self, version: Version) -> bool {
        match self {
            Method::ToolsList
            | Method::ToolsCall
            | Method::ResourcesList
            | Method::ResourceTemplatesList
            | Method::ResourcesRead
            | Method::PromptsList
            | Method::PromptsGet
            | Method::Complete => true,
            Method::Initialize
            | Method::Ping
            | Method::ResourcesSubscribe
            | Method::ResourcesUnsubscribe
            | Method::SetLevel => !version.is_modern(),
            Method::Discover | Method::Listen | Method::TasksUpdate => version.is_modern(),
            // Core tasks of 2025-11-25, and the tasks extension of the modern era.
            Method::TasksGet | Method::TasksCancel => version >= Version::V2025_11_25,
            Method::TasksList | Method::TasksResult => version == Version::V2025_11_25,
            Method::Unknown => false,
        }
    }
}

/// A notification a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the specification's own.
pub enum ClientNotification {
    Initialized,
    Cancelled,
    Progress,
    RootsListChanged,
    /// Anything else: ignored in silence.
    Unknown,
}

impl ClientNotification {
    /// The notification with this name.
    pub fn parse(name: &str) -> ClientNotification {
        match name {
            "notifications/initialized" => ClientNotification::Initialized,
            "notifications/cancelled" => ClientNotification::Cancelled,
            "notifications/progress" => ClientNotification::Progress,
            "notifications/roots/list_changed" => ClientNotification::RootsListChanged,
            _ => ClientNotification::Unknown,
        }
    }
}
