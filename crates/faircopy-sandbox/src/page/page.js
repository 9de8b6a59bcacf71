// The sandbox's page. Everything that comes from the instance is put in as text: nothing here reads HTML.

const PAGE = 10;
const MESSAGES = 20;
const POLL_MS = 1500;
const byId = (id) => document.getElementById(id);

// ---- asking

let key = sessionStorage.getItem("sandbox-key") ?? "";

class Refused extends Error {
  constructor(status, body) {
    const first = body?.errors?.[0];
    super(first?.long_message || first?.message || `The sandbox answered ${status}.`);
    this.status = status;
  }
}

async function ask(method, path, body) {
  // Looking on uses up no rate limit, and meets no chaos.
  const headers = { "faircopy-sandbox-onlooker": "page", ...(key && { authorization: `Bearer ${key}` }) };
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new Error("The answer was no JSON.");
  }
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

const get = (path) => ask("GET", path);
const of = (...names) => names.map(encodeURIComponent).join("/");

// ---- showing

/** An element. Strings become text; a property that is a function listens. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

const shown = new Map();

/** Fills an element anew if what it shows has changed; the focus stays where it was. */
function fill(id, what, children) {
  const fresh = JSON.stringify(what);
  if (shown.get(id) === fresh) return;
  shown.set(id, fresh);
  const focused = document.activeElement?.id;
  byId(id).replaceChildren(...[children(what)].flat());
  if (focused && document.activeElement?.id !== focused) byId(focused)?.focus();
}

function notice(text, kind = "") {
  const place = byId("notice");
  place.textContent = text;
  place.className = kind;
}

/** Does something and says how it went. */
async function act(done, action) {
  try {
    const answer = await action();
    notice(done, "good");
    await refresh();
    return answer;
  } catch (error) {
    notice(error.message, "bad");
    return null;
  }
}

const nameOf = (user) => [user.first_name, user.last_name].filter(Boolean).join(" ") || user.username || emailOf(user) || "(no name)";
const emailOf = (user) => (user.email_addresses.find((one) => one.id === user.primary_email_address_id) ?? user.email_addresses[0])?.email_address ?? "";
const counted = (count, what) => `${count ?? "?"} ${what}${count === 1 ? "" : "s"}`;
const timeOf = (ms) => new Date(ms).toLocaleTimeString();
const button = (id, text, label, click) => h("button", { type: "button", id, "aria-label": label, click }, text);

// ---- the dialog

let submit = null;

/** Asks for some fields; `save` gets their values, and what it throws is shown. */
function dialog({ title, text = "", fields = [], action, save }) {
  byId("dialog-title").textContent = title;
  byId("dialog-text").textContent = text;
  byId("dialog-error").textContent = "";
  byId("dialog-submit").textContent = action;
  byId("dialog-fields").replaceChildren(...fields.map(fieldOf));
  submit = save;
  byId("dialog").showModal();
}

function fieldOf({ name, label, value = "", options, ...properties }) {
  const control = options
    ? h("select", { name }, options.map(([of, text]) => h("option", { value: of, selected: of === value }, text)))
    : h("input", { name, value, autocomplete: "off", ...properties });
  return h("label", {}, label, control);
}

byId("dialog-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const values = Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim()]));
  byId("dialog-submit").disabled = true;
  try {
    const done = await submit(values);
    byId("dialog").close();
    notice(done, "good");
    await refresh();
  } catch (error) {
    byId("dialog-error").textContent = error.message;
  } finally {
    byId("dialog-submit").disabled = false;
  }
});
byId("dialog-cancel").addEventListener("click", () => byId("dialog").close());

function confirmed(title, text, action, done, carryOut) {
  dialog({ title, text, action, save: async () => (await carryOut(), done) });
}

// ---- lists with pages

const lists = { users: 0, organizations: 0 };

function pager(kind, total) {
  fill(`${kind}-pager`, [lists[kind], total], () => {
    if (total <= PAGE) return [];
    const turn = (by) => () => ((lists[kind] += by), refresh());
    const from = lists[kind];
    const back = h("button", { type: "button", id: `${kind}-back`, disabled: from === 0, click: turn(-PAGE) }, "Back");
    const on = h("button", { type: "button", id: `${kind}-on`, disabled: from + PAGE >= total, click: turn(PAGE) }, "On");
    return [back, `${from + 1} to ${Math.min(from + PAGE, total)} of ${total}`, on];
  });
}

function search(id, kind) {
  let soon;
  byId(id).addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(() => ((lists[kind] = 0), refresh()), 200);
  });
}
search("user-query", "users");
search("organization-query", "organizations");

const listPath = (kind, field) => {
  const query = byId(field).value.trim();
  return `/v1/${kind}?limit=${PAGE}&offset=${lists[kind]}${query ? `&query=${encodeURIComponent(query)}` : ""}`;
};

// ---- users

const userFields = (user) => [
  { name: "first_name", label: "First name", value: user?.first_name ?? "" },
  { name: "last_name", label: "Last name", value: user?.last_name ?? "" },
  { name: "username", label: "Username", value: user?.username ?? "" },
];

byId("user-new").addEventListener("click", () =>
  dialog({
    title: "New user",
    action: "Create",
    fields: [{ name: "email", label: "E-mail", type: "email" }, ...userFields()],
    save: async ({ email, ...rest }) => {
      const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value));
      const user = await ask("POST", "/v1/users", { ...given, ...(email && { email_address: [email] }), skip_password_requirement: true });
      return `Created ${nameOf(user)}.`;
    },
  }),
);

function editUser(user) {
  dialog({
    title: `Edit ${nameOf(user)}`,
    action: "Save",
    fields: userFields(user),
    save: async (values) => {
      const changed = Object.entries(values).filter(([name, value]) => value !== (user[name] ?? ""));
      await ask("PATCH", `/v1/users/${of(user.id)}`, Object.fromEntries(changed));
      return "Saved.";
    },
  });
}

const deleteUser = (user) =>
  confirmed(`Delete ${nameOf(user)}?`, "Memberships go with the user.", "Delete", "Deleted.", () => ask("DELETE", `/v1/users/${of(user.id)}`));

function userRow(user) {
  const name = nameOf(user);
  return h("li", {}, h("div", { class: "row" },
    h("div", { class: "what" }, h("span", {}, name), h("span", { class: "quiet" }, emailOf(user) || "no e-mail"), h("code", { class: "quiet" }, user.id)),
    h("div", { class: "buttons" },
      button(`edit-${user.id}`, "Edit", `Edit ${name}`, () => editUser(user)),
      button(`delete-${user.id}`, "Delete", `Delete ${name}`, () => deleteUser(user)))));
}

async function showUsers() {
  const query = byId("user-query").value.trim();
  const [users, { total_count: total }] = await Promise.all([
    get(listPath("users", "user-query")),
    get(`/v1/users/count${query ? `?query=${encodeURIComponent(query)}` : ""}`),
  ]);
  byId("users-count").textContent = total;
  fill("users-list", users, () => (users.length ? users.map(userRow) : h("li", { class: "empty" }, query ? "Nobody found." : "No users yet.")));
  pager("users", total);
  return users;
}

// ---- organizations

let open = null;
const ROLES = [["org:member", "org:member"], ["org:admin", "org:admin"]];
const userOptions = async () => (await get("/v1/users?limit=100")).map((user) => [user.id, `${nameOf(user)} (${user.id})`]);

byId("organization-new").addEventListener("click", async () => {
  const users = await userOptions().catch(() => []);
  dialog({
    title: "New organization",
    action: "Create",
    fields: [
      { name: "name", label: "Name", required: true },
      { name: "slug", label: "Slug (made from the name if empty)" },
      { name: "created_by", label: "Created by, who becomes its admin", options: [["", "nobody"], ...users] },
    ],
    save: async (values) => {
      const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value));
      const made = await ask("POST", "/v1/organizations", given);
      open = made.id;
      return `Created ${made.name}.`;
    },
  });
});

function editOrganization(organization) {
  dialog({
    title: `Edit ${organization.name}`,
    action: "Save",
    fields: [
      { name: "name", label: "Name", value: organization.name, required: true },
      { name: "slug", label: "Slug", value: organization.slug ?? "" },
    ],
    save: async (values) => {
      const changed = Object.entries(values).filter(([name, value]) => value !== (organization[name] ?? ""));
      await ask("PATCH", `/v1/organizations/${of(organization.id)}`, Object.fromEntries(changed));
      return "Saved.";
    },
  });
}

function deleteOrganization(organization) {
  dialog({
    title: `Delete ${organization.name}?`,
    text: "Its memberships and invitations go with it. Whether Clerk sends events for them as well is not documented: choose.",
    action: "Delete",
    fields: [{ name: "child_events", label: "Events", options: [["true", "for the organization and each child"], ["false", "for the organization alone"]] }],
    save: async ({ child_events: children }) => {
      await ask("DELETE", `/sandbox/v1/organizations/${of(organization.id)}?child_events=${children}`);
      return "Deleted.";
    },
  });
}

async function addMember(organization) {
  const users = await userOptions();
  dialog({
    title: `Add a member to ${organization.name}`,
    action: "Add",
    fields: [{ name: "user_id", label: "User", options: users }, { name: "role", label: "Role", options: ROLES }],
    save: async (values) => (await ask("POST", `/v1/organizations/${of(organization.id)}/memberships`, values), "Added."),
  });
}

function invite(organization) {
  dialog({
    title: `Invite to ${organization.name}`,
    action: "Invite",
    fields: [{ name: "email_address", label: "E-mail", type: "email", required: true }, { name: "role", label: "Role", options: ROLES }],
    save: async (values) => (await ask("POST", `/v1/organizations/${of(organization.id)}/invitations`, values), "Invited."),
  });
}

function memberRow(organization, member) {
  const { user_id: user, identifier, first_name: first, last_name: last } = member.public_user_data;
  const name = [first, last].filter(Boolean).join(" ") || identifier || user;
  const path = `/v1/organizations/${of(organization.id)}/memberships/${of(user)}`;
  const other = member.role === "org:admin" ? "org:member" : "org:admin";
  return h("li", {}, h("div", { class: "row" },
    h("div", { class: "what" }, h("span", {}, `${name} · ${member.role}`), h("code", { class: "quiet" }, user)),
    h("div", { class: "buttons" },
      button(`role-${member.id}`, `Make ${other.slice(4)}`, `Make ${name} ${other}`, () => act(`${name} is ${other} now.`, () => ask("PATCH", path, { role: other }))),
      button(`remove-${member.id}`, "Remove", `Remove ${name}`, () => act(`${name} is no member any more.`, () => ask("DELETE", path))))));
}

function invitationRow(organization, invitation) {
  const who = invitation.email_address;
  const revoke = () => ask("POST", `/v1/organizations/${of(organization.id)}/invitations/${of(invitation.id)}/revoke`, {});
  const accept = () => ask("POST", `/sandbox/v1/invitations/${of(invitation.id)}/accept`, {});
  return h("li", {}, h("div", { class: "row" },
    h("div", { class: "what" }, h("span", {}, `${who} · invited as ${invitation.role}`), h("code", { class: "quiet" }, invitation.id)),
    h("div", { class: "buttons" },
      button(`accept-${invitation.id}`, "Accept", `Accept for ${who}`, () => act(`${who} accepted.`, accept)),
      button(`revoke-${invitation.id}`, "Revoke", `Revoke the invitation of ${who}`, () => act("Revoked.", revoke)))));
}

function organizationRow(organization, inside) {
  const isOpen = open === organization.id;
  const toggle = () => ((open = isOpen ? null : organization.id), refresh());
  const head = h("div", { class: "row" },
    h("div", { class: "what" },
      h("span", {}, organization.name),
      h("span", { class: "quiet" }, `${organization.slug ?? "no slug"} · ${counted(organization.members_count, "member")}`),
      h("code", { class: "quiet" }, organization.id)),
    h("div", { class: "buttons" },
      h("button", { type: "button", id: `open-${organization.id}`, "aria-expanded": String(isOpen), "aria-label": `Members of ${organization.name}`, click: toggle }, "Members"),
      button(`edit-${organization.id}`, "Edit", `Edit ${organization.name}`, () => editOrganization(organization)),
      button(`delete-${organization.id}`, "Delete", `Delete ${organization.name}`, () => deleteOrganization(organization))));
  if (!isOpen || !inside) return h("li", {}, head);
  const rows = [...inside.members.map((one) => memberRow(organization, one)), ...inside.invitations.map((one) => invitationRow(organization, one))];
  return h("li", {}, head,
    h("p", { class: "actions" },
      button(`add-${organization.id}`, "Add member", `Add a member to ${organization.name}`, () => addMember(organization).catch((error) => notice(error.message, "bad"))),
      button(`invite-${organization.id}`, "Invite", `Invite to ${organization.name}`, () => invite(organization))),
    h("ul", { class: "rows" }, rows.length ? rows : h("li", { class: "empty" }, "No members yet.")));
}

async function insideOf(id) {
  const path = `/v1/organizations/${of(id)}`;
  const [members, invitations] = await Promise.all([get(`${path}/memberships?limit=100`), get(`${path}/invitations?status=pending&limit=100`)]);
  return { members: members.data, invitations: invitations.data };
}

async function showOrganizations() {
  const page = await get(`${listPath("organizations", "organization-query")}&include_members_count=true`);
  if (open && !page.data.some((one) => one.id === open)) open = null;
  const inside = open ? await insideOf(open) : null;
  byId("organizations-count").textContent = page.total_count;
  fill("organizations-list", [page.data, open, inside], () =>
    page.data.length ? page.data.map((one) => organizationRow(one, inside)) : h("li", { class: "empty" }, "No organizations yet."));
  pager("organizations", page.total_count);
  return page.data;
}

// ---- deliveries

const STATES = { waiting: ["◔", "warn"], delivered: ["✓", "good"], failed: ["✗", "bad"], lost: ["∅", "bad"] };

byId("endpoint-new").addEventListener("click", () =>
  dialog({
    title: "New endpoint",
    action: "Create",
    fields: [
      { name: "url", label: "Address", type: "url", required: true, value: "http://127.0.0.1:8787/webhooks/clerk" },
      { name: "secret", label: "Signing secret (made up if empty)", placeholder: "whsec_…" },
    ],
    save: async ({ url, secret }) => (await ask("POST", "/sandbox/v1/endpoints", { url, ...(secret && { secret }) }), "The endpoint is there."),
  }),
);

function endpointRow(endpoint) {
  const path = `/sandbox/v1/endpoints/${of(endpoint.id)}`;
  const turn = () => act(endpoint.disabled ? "Enabled." : "Disabled.", () => ask("PATCH", path, { disabled: !endpoint.disabled }));
  const post = (what, done) => act(done, () => ask("POST", `${path}/${what}`, {}));
  const copy = () => act("The secret is in the clipboard.", () => navigator.clipboard.writeText(endpoint.secret));
  const state = endpoint.disabled ? ["■", "bad", `disabled by ${endpoint.disabled_by}`] : endpoint.failing ? ["!", "warn", "failing"] : ["✓", "good", "enabled"];
  return h("li", {}, h("div", { class: "row" },
    h("div", { class: "what" }, h("span", {}, endpoint.url), h("span", { class: `state ${state[1]}`, "data-icon": state[0] }, state[2]), h("code", { class: "quiet" }, endpoint.id)),
    h("div", { class: "buttons" },
      button(`secret-${endpoint.id}`, "Copy secret", `Copy the secret of ${endpoint.url}`, copy),
      button(`missing-${endpoint.id}`, "Replay missing", `Replay missing to ${endpoint.url}`, () => post("replay-missing", "What was never sent is on its way.")),
      button(`recover-${endpoint.id}`, "Recover", `Recover failed at ${endpoint.url}`, () => post("recover", "What failed is on its way.")),
      button(`turn-${endpoint.id}`, endpoint.disabled ? "Enable" : "Disable", `${endpoint.disabled ? "Enable" : "Disable"} ${endpoint.url}`, turn),
      button(`drop-${endpoint.id}`, "Delete", `Delete ${endpoint.url}`, () => confirmed("Delete the endpoint?", endpoint.url, "Delete", "Deleted.", () => ask("DELETE", path))))));
}

function outcome({ state, attempt_count: attempts, next_at_ms: next, last_attempt: last }) {
  const [icon, kind] = STATES[state] ?? ["?", ""];
  // Of an error the last cause: it says the most in the fewest words.
  const answer = last ? (last.answer.status ?? last.answer.error.split(": ").pop()) : null;
  const parts = [state, attempts && counted(attempts, "attempt"), answer, next && `next at ${timeOf(next)}`];
  return h("span", { class: `state ${kind}`, "data-icon": icon }, parts.filter(Boolean).join(" · "));
}

function messageRow(message) {
  const deliveries = Object.values(message.deliveries);
  return h("li", {}, h("div", { class: "row" },
    h("div", { class: "what" },
      h("span", {}, `${timeOf(message.created_at_ms)}  ${message.type}`),
      deliveries.length ? deliveries.map(outcome) : h("span", { class: "quiet" }, "no endpoint wanted it"),
      h("code", { class: "quiet" }, message.id)),
    h("div", { class: "buttons" },
      button(`resend-${message.id}`, "Resend", `Resend ${message.type} ${message.id}`, () => act("On its way again.", () => ask("POST", `/sandbox/v1/messages/${of(message.id)}/resend`, {}))))));
}

async function showDeliveries(status) {
  const [endpoints, messages] = await Promise.all([get("/sandbox/v1/endpoints"), get(`/sandbox/v1/messages?limit=${MESSAGES}`)]);
  const { waiting, delivered, failed, lost } = status.deliveries;
  byId("deliveries-count").textContent = `${delivered} delivered, ${waiting} waiting, ${failed} failed, ${lost} lost`;
  fill("endpoints-list", endpoints.data, () => (endpoints.data.length ? endpoints.data.map(endpointRow) : h("li", { class: "empty" }, "No endpoint yet: nothing is sent.")));
  fill("messages-list", messages.data, () => messages.data.map(messageRow));
}

// ---- chaos

const chaosForm = byId("chaos-form");
let chaosTouched = false;
const at = (object, path) => path.split(".").reduce((inside, name) => inside?.[name], object);

function showChaos(chaos) {
  const fields = [...chaosForm.elements].filter((field) => field.name);
  const wild = fields.filter((field) => { const value = at(chaos, field.name); return value && value !== "none"; }).length;
  const state = byId("chaos-state");
  state.textContent = wild ? `${wild} on` : "all calm";
  state.className = wild ? "count warn" : "count";
  if (chaosTouched) return;
  for (const field of fields) {
    if (field.type === "checkbox") field.checked = at(chaos, field.name);
    else field.value = at(chaos, field.name);
  }
}

chaosForm.addEventListener("input", () => {
  chaosTouched = true;
  byId("chaos-note").textContent = "not set yet";
});

function settled() {
  chaosTouched = false;
  byId("chaos-note").textContent = "";
}

chaosForm.addEventListener("submit", (event) => {
  event.preventDefault();
  const settings = {};
  for (const field of [...chaosForm.elements].filter((one) => one.name)) {
    const path = field.name.split(".");
    const last = path.pop();
    const inside = path.reduce((object, name) => (object[name] ??= {}), settings);
    inside[last] = field.type === "checkbox" ? field.checked : field.type === "number" ? Number(field.value) : field.value;
  }
  act("Chaos is set.", async () => {
    await ask("PATCH", "/sandbox/v1/chaos", settings);
    settled();
  });
});

byId("chaos-reset").addEventListener("click", () =>
  act("All calm.", async () => {
    await ask("DELETE", "/sandbox/v1/chaos");
    settled();
  }),
);

// ---- tokens

function showTokenChoices(users, organizations) {
  const select = (name, first, options) => {
    const field = byId("token-form").elements[name];
    const value = field.value;
    const fresh = JSON.stringify(options);
    if (field.dataset.shown === fresh) return;
    field.dataset.shown = fresh;
    field.replaceChildren(...first, ...options.map(([id, text]) => h("option", { value: id }, text)));
    if (options.some(([id]) => id === value)) field.value = value;
  };
  select("user_id", [], users.map((user) => [user.id, nameOf(user)]));
  select("organization_id", [h("option", { value: "" }, "none")], organizations.map((one) => [one.id, one.name]));
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { user_id, organization_id, version, lifetime_s } = Object.fromEntries(new FormData(event.target));
  const wanted = { user_id, version, lifetime_s: Number(lifetime_s), ...(organization_id && { organization_id }) };
  act("The token is below.", async () => {
    byId("token-text").value = "";
    byId("token-copy").disabled = true;
    byId("token-text").value = (await ask("POST", "/sandbox/v1/tokens", wanted)).jwt;
    byId("token-copy").disabled = false;
  });
});
byId("token-copy").addEventListener("click", () => act("The token is in the clipboard.", () => navigator.clipboard.writeText(byId("token-text").value)));

// ---- all of it, again and again

let again = null;
let shownWell = true;

async function refresh() {
  clearTimeout(again);
  try {
    const status = await get("/sandbox/v1/status");
    key = status.secret_key ?? key;
    byId("login").hidden = true;
    byId("main").hidden = false;
    byId("instance").textContent = `${status.instance_id} · clock ${new Date(status.now_ms).toLocaleString()} · schedule ${status.schedule.speed}× as fast`;
    showChaos(status.chaos);
    const parts = await Promise.allSettled([showUsers(), showOrganizations(), showDeliveries(status)]);
    const [users, organizations] = parts.map((part) => part.value ?? []);
    if (parts[0].value && parts[1].value) showTokenChoices(users, organizations);
    const failed = parts.find((part) => part.status === "rejected");
    if (failed) notice(failed.reason.message, "bad");
    else if (!shownWell) notice("");
    shownWell = !failed;
  } catch (error) {
    lost(error);
  }
  again = setTimeout(refresh, POLL_MS);
}

function lost(error) {
  shownWell = false;
  if (error.status === 401) {
    byId("login").hidden = false;
    byId("main").hidden = true;
    byId("instance").textContent = "";
    if (key) notice("That is not its key.", "bad");
  } else {
    notice(error instanceof TypeError ? "The sandbox does not answer. What is shown may be old." : error.message, "bad");
  }
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = new FormData(event.target).get("key").trim();
  sessionStorage.setItem("sandbox-key", key);
  refresh();
});

refresh();
