// What `examples/client.js` is made to do by `test_node.py`: one of the stories below, at the endpoint given.
"use strict"
const { Client } = require("../../examples/client.js")

const [story, endpoint, heartbeat] = process.argv.slice(2)
const say = (...words) => console.log(...words)
const failure = (error) => [error.code, error.message, JSON.stringify(error.details), error.refused].join(" | ")
const until = (condition) => new Promise((resolve) => {
  const look = async () => ((await condition()) ? resolve() : setTimeout(look, 1))
  look()
})

const stories = {
  async overtaking(client) {
    const calls = [1, 2, 3].map((number) => client.call("calc.turn", [number]).then((result) => say("turn", result)))
    say("sums", await client.call("calc.add", [1, 2]), await client.call("calc.add", { b: 4, a: 3 }))
    await Promise.all(calls)
  },
  async errors(client) {
    const calls = { fail: [["precondition"], { kind: "value" }], nothing: [[]], add: [["one"], [1n]] }
    for (const [method, each] of Object.entries(calls))
      for (const params of each) await client.call(`calc.${method}`, params).catch((error) => say(failure(error)))
    await client.call("calc.echo", [new Uint8Array(2 ** 24 + 1)]).catch((error) => say(error.code))
    await client.call("calc.echo", ["x".repeat(2 ** 18)]).catch((error) => say(error.code))
    say(await client.call("calc.add", [1]))
  },
  async deadline(client) {
    await client.call("calc.hold", [1], { timeout: 1000 }).catch((error) => say(error.code))
  },
  async metadata(client) {
    say(await client.call("calc.who", [], { metadata: { token: "open sesame", имя: "Ада" } }))
  },
  async leaving(client) {
    for await (const number of client.stream("calc.count", [10], { window: 4 })) {
      say(number)
      if (number === 12) break
    }
    await until(() => client.call("calc.ended")) // the session is as good as before
  },
  async sizes(client) {
    let [count, sum] = [0, 0]
    for await (const [text, bytes] of client.stream("calc.sizes", [300], { window: 3 })) {
      count += 1
      sum += text.length + bytes.length
    }
    say(count, sum)
    try {
      for await (const number of client.stream("calc.broken")) say(number)
    } catch (error) {
      say(failure(error))
    }
  },
  async sending(client) {
    say(await client.call("calc.total", [], { items: Array.from({ length: 1000 }, (_, number) => number) }))
    const blobs = function* () {
      for (let size = 1; size <= 2 ** 20; size *= 2) yield new Uint8Array(size)
    }
    say(await client.call("calc.volume", [], { items: blobs() }))
    let left = false
    const endless = async function* () {
      try {
        for (let number = 0; ; number++) yield number
      } finally {
        left = true
      }
    }
    say(await client.call("calc.first", [], { items: endless() }))
    await until(() => left)
    for await (const word of client.stream("calc.shout", [], { items: ["a", "b"] })) say(word)
    const broken = function* () {
      yield 1
      throw new Error("no more")
    }
    await client.call("calc.total", [], { items: broken() }).catch((error) => say(error.message))
  },
  async large(client) {
    const sent = new Uint8Array(2 ** 20).map((_, index) => index * 7 + (index >> 8))
    for (let round = 0; round < 12; round++) { // more than a window of them
      const back = await client.call("calc.echo", [sent])
      if (Buffer.compare(sent, back)) say("other bytes came back")
    }
    const together = await Promise.all(Array.from({ length: 24 }, () => client.call("calc.echo", { data: sent })))
    say(together.every((back) => Buffer.compare(sent, back) === 0))
  },
  async idle(client) {
    say(await client.call("calc.add", [1, 1]))
    await new Promise((resolve) => setTimeout(resolve, 2500))
    say(await client.call("calc.add", [2, 2]))
  },
  async drained(client) {
    const held = client.call("calc.hold", [1])
    await until(() => client.call("calc.add", [1]).then(() => false, (error) => say(error.code, error.refused) ?? true))
    say(await held)
    say(await client.ended)
  },
  async lost(client) {
    const calls = ["a", "b"].map((key) => client.call("app.once", [key, 60]))
    for (const result of await Promise.allSettled(calls)) say(result.reason.code, result.reason.refused)
    say(await client.ended)
    await client.call("app.once", ["c", 0]).catch((error) => say(error.code, error.refused))
  },
  async raw(client) {
    let count = 0
    for await (const _ of client.stream("raw.items", [], { window: 1 })) count++
    say(count, "items")
  },
  async credit(client) {
    say(await client.call("raw.total", [], { items: ["x".repeat(4096), 1, 2, 3, 4] }))
  },
  async window(client) {
    const calls = [1, 2, 3].map(() => client.call("raw.echo", [new Uint8Array(60_000)]))
    say(String(await Promise.all(calls)))
  },
}

const client = new Client(endpoint, { heartbeat: Number(heartbeat) })
stories[story](client).then(() => client.close())
