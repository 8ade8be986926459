// A Socket.IO client with what this page needs: one namespace, WebSocket only, acknowledgements, connection state recovery.
// https://socket.io/docs/v4/engine-io-protocol/ and https://socket.io/docs/v4/socket-io-protocol/

export class Socket {
  #url;
  #auth; // () => promise of the auth object, asked for each connection
  #on; // {connect, event, disconnect, refused}
  #ws;
  #acks = new Map();
  #next = 0;
  #pid;
  #offset;
  #again; // the timer of the next attempt
  #wanted = false;
  id;

  constructor(url, auth, on) {
    [this.#url, this.#auth, this.#on] = [url, auth, on];
  }

  /** Connects, and again after each loss, until close. */
  open() {
    this.#wanted = true;
    this.#dial();
  }

  /** Leaves for good. */
  close() {
    this.#wanted = false;
    clearTimeout(this.#again);
    if (this.#ws?.readyState === WebSocket.OPEN) this.#ws.send("41");
    this.#lose("disconnected");
    this.#pid = this.#offset = undefined;
  }

  /** Ends the connection as a network does, without a word; the next one is opened after wait milliseconds. */
  cut(wait) {
    this.#lose("cut", wait);
  }

  /** Sends an event; resolves with the acknowledgement's first argument. */
  emit(...args) {
    return new Promise((resolve, reject) => {
      if (this.id === undefined) return reject(new Error("not connected"));
      const id = this.#next++;
      this.#acks.set(id, { resolve, reject });
      this.#ws.send(`42${id}${JSON.stringify(args)}`);
    });
  }

  async #dial() {
    let auth;
    try {
      auth = await this.#auth();
    } catch (error) {
      this.#on.refused(error.message);
      this.#later(2000);
      return;
    }
    if (!this.#wanted) return;
    const url = new URL(this.#url);
    url.searchParams.set("ticket", auth.ticket);
    const ws = new WebSocket(url);
    this.#ws = ws;
    ws.onmessage = ({ data }) => this.#ws === ws && typeof data === "string" && this.#packet(data, auth);
    ws.onclose = () => this.#ws === ws && this.#lose("connection lost", 1000);
  }

  #packet(text, auth) {
    switch (text[0]) {
      case "0": // open
        this.#ws.send(`40${JSON.stringify({ ...auth, ...(this.#pid && { pid: this.#pid, offset: this.#offset }) })}`);
        break;
      case "2": // ping
        this.#ws.send("3");
        break;
      case "4":
        this.#message(text.slice(1));
    }
  }

  #message(text) {
    const [, type, id, data] = /^(\d)(\d*)(.*)$/s.exec(text);
    const value = data ? JSON.parse(data) : undefined;
    switch (type) {
      case "0": {
        this.id = value.sid;
        const recovered = this.#pid !== undefined && this.#pid === value.pid;
        this.#pid = value.pid;
        this.#on.connect(recovered);
        break;
      }
      case "1":
        this.#lose("disconnected by the server");
        this.#wanted = false;
        break;
      case "2":
        if (typeof value.at(-1) === "string" && this.#pid && !id) this.#offset = value.pop();
        this.#on.event(...value);
        break;
      case "3":
        this.#acks.get(Number(id))?.resolve(value[0]);
        this.#acks.delete(Number(id));
        break;
      case "4":
        this.#on.refused(value.message);
        this.#lose("refused", 5000);
    }
  }

  #lose(why, wait) {
    const ws = this.#ws;
    this.#ws = this.id = undefined;
    if (ws === undefined) return;
    ws.close();
    for (const { reject } of this.#acks.values()) reject(new Error("the connection was lost"));
    this.#acks.clear();
    this.#on.disconnect(why);
    if (wait !== undefined) this.#later(wait);
  }

  #later(wait) {
    clearTimeout(this.#again);
    if (this.#wanted) this.#again = setTimeout(() => this.#dial(), wait);
  }
}
