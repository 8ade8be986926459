// Two clients side by side, in one room.
import { Socket } from "./socket.js";

const kept = 200; // lines of a log
const away = 3000; // milliseconds from a cut to the return: long enough to miss something

/** Puts a client into the element; ticket(user) gets what lets it in. */
export function client(parent, { user, room, ticket }) {
  const root = document.getElementById("client").content.cloneNode(true).firstElementChild;
  parent.append(root);
  const [who, say] = root.querySelectorAll("form");
  const log = root.querySelector(".log");
  const presence = root.querySelector(".presence");
  who.elements.user.value = user;
  who.elements.room.value = room;
  root.setAttribute("aria-label", user);
  let socket;
  let users = new Set();

  const write = (kind, ...nodes) => {
    const line = document.createElement("li");
    line.className = kind;
    line.append(...nodes);
    log.append(line);
    while (log.childElementCount > kept) log.firstElementChild.remove();
    log.scrollTop = log.scrollHeight;
  };
  const note = (text) => write("event", text);
  const show = (connected) => {
    for (const element of [who.elements.cut, ...say.elements]) element.disabled = !connected;
    if (!connected) presence.textContent = "not connected";
    else presence.textContent = `in ${who.elements.room.value}: ${[...users].sort().join(", ") || "nobody yet"}`;
  };
  const running = (yes) => {
    for (const element of [who.elements.user, who.elements.room, who.elements.connect]) element.disabled = yes;
    who.elements.leave.disabled = !yes;
  };
  const isHere = (answer) => {
    if (answer?.users) users = new Set(answer.users);
    show(true);
  };

  const events = {
    message(room, { from }, value) {
      const name = document.createElement("b");
      name.textContent = from;
      write("said", name, ` ${value?.text ?? JSON.stringify(value)}`);
    },
    presence(update) {
      if (update.room !== who.elements.room.value) return;
      if (update.users) users = new Set(update.users);
      for (const name of update.joined ?? []) users.add(name);
      for (const name of update.left ?? []) users.delete(name);
      const news = [["is here", update.joined], ["left", update.left]].filter(([, names]) => names?.length);
      for (const [what, names] of news) note(`${names.join(", ")} ${what}`);
      show(true);
    },
  };

  who.addEventListener("submit", (e) => {
    e.preventDefault();
    const name = who.elements.user.value;
    const url = new URL("/console/socket.io/?EIO=4&transport=websocket", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    socket = new Socket(url, async () => ({ ticket: await ticket(name) }), {
      connect(recovered) {
        note(recovered ? "connected again: recovered, nothing was missed" : "connected");
        show(true);
        if (recovered) return;
        socket.emit("join", who.elements.room.value).then((answer) => {
          if (!answer.ok) return note(`join: ${answer.error}`);
          isHere(answer);
        }, (error) => note(`join: ${error.message}`));
      },
      event: (event, ...args) => events[event]?.(...args),
      disconnect(why) {
        note(why);
        show(false);
      },
      refused: (why) => note(`refused: ${why}`),
    });
    running(true);
    socket.open();
  });
  who.elements.cut.addEventListener("click", () => socket.cut(away));
  who.elements.leave.addEventListener("click", () => {
    socket.close();
    users.clear();
    running(false);
    show(false);
  });
  say.addEventListener("submit", (e) => {
    e.preventDefault();
    const text = say.elements.text.value;
    if (text === "") return;
    socket.emit("message", who.elements.room.value, { text }).then(
      (answer) => answer.ok || note(`message: ${answer.error}`),
      (error) => note(`message: ${error.message}`),
    );
    say.elements.text.value = "";
  });
}
