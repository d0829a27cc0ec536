// A client of AZP/1 for Node.js 20, made from the specification (aiozpat/protocol/README.md) alone: copy it. It needs
// `npm install zeromq @msgpack/msgpack`, and takes the server at its word: what comes is not checked for breaches.
//
// Usage: `python examples/server.py` in one terminal, `node examples/client.js [endpoint]` in another.
//
// Prints:
//
//     Hello, world
//     digest: 1116
//     greeter.goodbye: UNIMPLEMENTED
"use strict"
const { randomBytes } = require("node:crypto")
const { EventEmitter, once } = require("node:events")
const { Dealer } = require("zeromq")
const { decode, encode, ExtensionCodec } = require("@msgpack/msgpack")

const [HELLO, PING, PONG, GOAWAY, BYE, ACK, RESET] = [0, 1, 2, 3, 4, 5, 6]
const [REQUEST, REPLY, ERROR, REFUSED, CANCEL, ITEM, END, CREDIT] = [10, 11, 12, 13, 14, 20, 21, 22]
const [WINDOW, BUFFER, VALUE, APART, NO_DEADLINE] = [2 ** 23, 2 ** 24, 2 ** 18, 2 ** 16, 1_728_000_000]
const CODES = `OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
  RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS
  UNAUTHENTICATED`.split(/\s+/)

class RpcError extends Error {
  constructor(code, message, details = {}, refused = false) {
    super(message)
    Object.assign(this, { code: CODES[code] ?? "UNKNOWN", details, refused }) // refused: it never ran
  }
}

function fail(...reasons) {
  throw new RpcError(...reasons)
}

const extensionCodec = new ExtensionCodec() // where large bytes would be, there is a reference to a buffer frame
extensionCodec.register({
  type: 1,
  encode: (value, buffers) =>
    ArrayBuffer.isView(value) && value.byteLength >= APART ? encode(buffers.push(value) - 1) : null,
  decode: (index, type, buffers) => buffers[decode(index)] ?? fail(13, "a reference to no buffer"),
})

const sizeOf = (frames) => frames.reduce((sum, frame) => sum + frame.byteLength, 0)

class Packed {
  constructor(bytes, buffers) {
    Object.assign(this, { bytes, buffers, units: Math.floor(sizeOf([bytes, ...buffers]) / 4096) })
  }
}

function pack(value) {
  const buffers = []
  return new Packed(encode(value, { extensionCodec, context: buffers }), buffers)
}

// Credit depends on how long items are, which the library doesn't tell. From type 0xc0 on: bytes that follow each.
const WIDTHS = [0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, 1, 2, 4, 2, 4, 2, 4]

function skip(bytes, at, values = 1) {
  for (; values > 0; values--) {
    const type = bytes[at] ?? fail(13, "a message cut off")
    const width = WIDTHS[type - 0xc0] ?? 0
    const counts = (type >= 0xc4 && type <= 0xc9) || (type >= 0xd9 && type <= 0xdf)
    const count = counts ? bytes.readUIntBE(at + 1, width) : type & (type < 0xa0 ? 15 : 31)
    at += 1 + width
    if (type >> 4 === 8 || type === 0xde || type === 0xdf) values += 2 * count
    else if (type >> 4 === 9 || type === 0xdc || type === 0xdd) values += count
    else if (type >> 5 === 5 || counts) at += count + (type >= 0xc7 && type <= 0xc9 ? 1 : 0)
  }
  return at
}

const inside = (bytes, at) => at + 1 + (WIDTHS[bytes[at] - 0xc0] ?? 0) // of an array: where its first element is

function* unpack(header, frames) {
  if (header[0] !== 0xc1) fail(13, "not a message of AZP")
  let taken = 0
  for (let at = inside(header, 2), end; at < header.length; at = end) {
    end = skip(header, at)
    const record = decode(header.subarray(at, end), { extensionCodec, context: frames.slice(taken) })
    if (header[1] !== 1 && record[0] !== RESET) fail(13, "a message of another version")
    const buffers = record[0] === REPLY || record[0] === ITEM ? frames.slice(taken, (taken += record[2])) : []
    const value = skip(header, inside(header, at), record[0] === ITEM ? 3 : 1)
    yield [record, new Packed(header.subarray(value, skip(header, value)), buffers)]
  }
  if (taken !== frames.length) fail(13, "buffers that do not add up")
}

// One session: when it has ended, make another Client.
class Client {
  #socket = new Dealer({ linger: 1000, maxMessageSize: BUFFER, sendHighWaterMark: 0 })
  #sending = Promise.resolve() // the socket takes one message at a time
  #session = randomBytes(16)
  #limits = { window: WINDOW, buffer: BUFFER, stream: 64 }
  #out = { window: 0, bytes: 0, acknowledged: 0 } // no window before the server's hello: calls wait for it
  #in = { bytes: 0, acknowledged: 0 }
  #quiet = 0 // quarters of a heartbeat; by the clock, a server would seem dead when we ourselves were busy
  #calls = new Map()
  #lastId = 0
  #refusal = null // why there are no new calls
  #left = false
  #over = false
  #resolve
  ended = new Promise((resolve) => (this.#resolve = resolve)) // why

  constructor(endpoint, { heartbeat = 2000, name = "node" } = {}) {
    this.#socket.events.on("disconnect", () => this.#end("the connection is lost"))
    this.#socket.connect(endpoint)
    const timer = setInterval(() => this.#beat(), heartbeat / 4)
    this.ended.then(() => clearInterval(timer))
    this.#send(HELLO, this.#session, [1], "msgpack", name, { window: WINDOW, buffer: BUFFER })
    this.#read()
  }

  // Params are an array, or an object by name; `items`, any iterable, are the method's stream. Times in milliseconds.
  async call(method, params = [], { timeout = 30_000, metadata, items } = {}) {
    return (await this.#run(method, params, timeout, metadata, items, 0).next()).value
  }

  // The server is at most `window` items ahead; leaving the loop cancels the call.
  stream(method, params = [], { timeout = NO_DEADLINE, metadata, items, window = 64 } = {}) {
    return this.#run(method, params, timeout, metadata, items, window)
  }

  async close() {
    this.#leave("the client has left")
    setTimeout(() => this.#end("the server says no goodbye"), 1000).unref()
    await this.ended
  }

  async *#run(method, params, timeout, metadata = null, items, window) {
    if (this.#refusal) fail(14, this.#refusal, {}, true)
    const id = ++this.#lastId
    const call = Object.assign(new EventEmitter(), { asked: false, outcome: null, items: [], window, credit: 0 })
    this.#calls.set(id, call)
    const deadline = performance.now() + timeout
    const timer = setTimeout(() => this.#cancel(id, new RpcError(4, `no answer in ${timeout} ms`)), timeout)
    try {
      while (this.#isFull && !call.outcome) await once(call, "change")
      if (!call.outcome) {
        const packed = pack(params)
        const left = Math.ceil(deadline - performance.now())
        const opening = window || items ? [window, Boolean(items), 0] : null
        this.#send(REQUEST, id, packed.buffers.length, method, left, packed, metadata, opening)
        call.asked = true
        if (items) this.#pump(id, call, items)
      }
      for (let used = 0; ; ) {
        while (!call.items.length && !call.outcome) await once(call, "change")
        if (!call.items.length) break
        const [item, units] = call.items.shift()
        used += units
        for (; used >= window / 2; used -= Math.min(used, 65_536)) this.#send(CREDIT, id, Math.min(used, 65_536))
        yield item
      }
      if (call.outcome.error) throw call.outcome.error
      return call.outcome.result
    } finally {
      clearTimeout(timer)
      this.#cancel(id, new RpcError(1, "the caller has left"))
    }
  }

  async #pump(id, call, items) {
    call.credit = this.#limits.stream
    try {
      for await (const item of items) {
        const packed = pack([item])
        while ((this.#isFull || call.credit <= 0) && !call.outcome) await once(call, "change")
        if (call.outcome) return
        this.#send(ITEM, id, packed.buffers.length, packed)
        call.credit -= 1 + packed.units
      }
      while (this.#isFull && !call.outcome) await once(call, "change")
      if (!call.outcome) this.#send(END, id)
    } catch (error) {
      this.#cancel(id, error)
    }
  }

  #settle(id, error, result) {
    const call = this.#calls.get(id)
    if (!this.#calls.delete(id)) return
    call.outcome = { error, result }
    call.emit("change")
    return call
  }

  #cancel(id, error) {
    if (this.#settle(id, error)?.asked) this.#send(CANCEL, id)
  }

  get #isFull() {
    return this.#out.bytes - this.#out.acknowledged >= this.#out.window
  }

  #send(...record) {
    const packed = record.find((element) => element instanceof Packed)
    const buffers = packed?.buffers ?? []
    if (packed?.bytes.length > VALUE || buffers.some((buffer) => buffer.byteLength > this.#limits.buffer))
      fail(3, "more than a message may hold") // sent, it would end the session
    const elements = record.map((element) => (element === packed ? packed.bytes : encode(element)))
    const frames = [Buffer.concat([Buffer.of(0xc1, 1, 0x91, 0x90 + record.length), ...elements]), ...buffers]
    this.#out.bytes += sizeOf(frames)
    this.#sending = this.#sending.then(() => this.#socket.send(frames)).catch((error) => this.#end(error.message))
  }

  async #read() {
    try {
      for await (const [header, ...frames] of this.#socket) {
        this.#quiet = 0
        this.#in.bytes += sizeOf([header, ...frames])
        for (const [[tag, ...fields], packed] of unpack(header, frames))
          if (!this.#over) (this.#handlers[tag] ?? fail(13, "a record of no meaning here"))(fields, packed)
        this.#acknowledge(this.#out.window / 4)
      }
    } catch (error) {
      this.#end(error.message)
    }
  }

  #handlers = {
    [HELLO]: ([session, , , , limits]) => {
      if (!this.#session.equals(session)) return
      Object.assign(this.#limits, limits)
      this.#out.window = Math.max(65_536, Math.min(WINDOW, this.#limits.window))
      this.#wake()
    },
    [PING]: (_, token) => this.#send(PONG, token), // as it came: it may be larger than a number is exact here
    [PONG]: () => {},
    [GOAWAY]: ([reason]) => {
      this.#refusal = `the server is leaving: ${reason}`
      for (const [id, call] of this.#calls) if (!call.asked) this.#settle(id, new RpcError(14, reason, {}, true))
    },
    [BYE]: ([reason]) => {
      this.#leave("the server has left")
      this.#end(`the server has left: ${reason}`)
    },
    [ACK]: ([bytes]) => {
      this.#out.acknowledged = Math.max(this.#out.acknowledged, Math.min(this.#out.bytes, bytes))
      this.#wake()
    },
    [RESET]: ([code, reason]) => this.#end(`reset, ${CODES[code]}: ${reason}`),
    [REPLY]: ([id, , result]) => this.#settle(id, null, result),
    [ERROR]: ([id, , ...reasons]) => this.#settle(id, new RpcError(...reasons.slice(0, 3))),
    [REFUSED]: ([id, , code, message, details]) => this.#settle(id, new RpcError(code, message, details, true)),
    [END]: ([id]) => this.#settle(id),
    [ITEM]: ([id, , items], { units }) => {
      const call = this.#calls.get(id)
      if (call && !call.window) fail(13, "items for a call without a stream")
      call?.items.push(...items.map((item, index) => [item, index ? 1 : 1 + units]))
      call?.emit("change")
    },
    [CREDIT]: ([id, units]) => {
      const call = this.#calls.get(id)
      if (call) call.credit += units
      call?.emit("change")
    },
  }

  #wake() {
    for (const call of this.#calls.values()) call.emit("change")
  }

  #beat() {
    this.#quiet += 1
    if (this.#quiet > 12) this.#end("the server is silent")
    else if (this.#quiet >= 3) this.#send(PING, 0)
    this.#acknowledge(4096)
  }

  #acknowledge(least) {
    if (this.#in.bytes - this.#in.acknowledged < least) return
    this.#in.acknowledged = this.#in.bytes
    this.#send(ACK, this.#in.bytes)
  }

  #leave(refusal) {
    this.#refusal ??= refusal
    if (!this.#left) this.#send(BYE, "")
    this.#left = true
  }

  #end(reason) {
    if (this.#over) return
    this.#over = true
    this.#refusal ??= reason
    for (const [id, call] of this.#calls) this.#settle(id, new RpcError(14, reason, {}, !call.asked))
    this.#sending.then(() => this.#socket.close())
    this.#resolve(reason)
  }
}

async function main(endpoint = "tcp://127.0.0.1:5555") {
  const client = new Client(endpoint)
  console.log(await client.call("greeter.hello", ["world"]))
  console.log("digest:", await client.call("greeter.digest", { text: "hello world" }, { timeout: 5000 }))
  await client.call("greeter.goodbye").catch((error) => console.log("greeter.goodbye:", error.code))
  await client.close()
}

module.exports = { Client, RpcError }
if (require.main === module) main(process.argv[2])
