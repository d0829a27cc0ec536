// A peer in another language: plain ZeroMQ from Node.js (npm package "zeromq"), connected to the endpoint given.
// It prints each message that it gets, its frames joined by a space.
"use strict"
const zmq = require("zeromq")

const [role, endpoint, count] = process.argv.slice(2)
const times = Number(count)
const say = (frames) => console.log(frames.map(String).join(" "))

const roles = {
  async req(socket = new zmq.Request()) {
    socket.connect(endpoint)
    for (let i = 0; i < times; i++) {
      await socket.send(`request ${i}`)
      say(await socket.receive())
    }
  },
  async dealer(socket = new zmq.Dealer()) {
    socket.connect(endpoint)
    for (let i = 0; i < times; i++) await socket.send(["id", `request ${i}`])
    for (let i = 0; i < times; i++) say(await socket.receive())
  },
  async rep(socket = new zmq.Reply()) {
    socket.connect(endpoint)
    for (let i = 0; i < times; i++) {
      const [request] = await socket.receive()
      await socket.send(String(request).toUpperCase())
    }
  },
  async sub(socket = new zmq.Subscriber()) {
    socket.connect(endpoint)
    socket.subscribe("weather")
    for (let i = 0; i < times; i++) say(await socket.receive())
  },
  async pub(socket = new zmq.Publisher()) {
    socket.connect(endpoint)
    for (let i = 0; i < times; i++) {
      await socket.send(["weather.snow", String(i)])
      await new Promise((done) => setTimeout(done, 1)) // a plain publisher can't know when it is heard
    }
  },
  async push(socket = new zmq.Push()) {
    socket.connect(endpoint)
    for (let i = 0; i < times; i++) await socket.send(`task ${i}`)
  },
  async pull(socket = new zmq.Pull()) {
    socket.connect(endpoint)
    for (let i = 0; i < times; i++) say(await socket.receive())
  },
  async pair(socket = new zmq.Pair()) {
    socket.connect(endpoint)
    for (let i = 0; i < times; i++) await socket.send(await socket.receive())
  },
}

roles[role]()
