// Browsers start no Web Worker from a page that was opened from the disk (file://), and the site's search is one.
// There its script runs in a hidden frame in place of a worker, with the same messages; nothing is asked of the network.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.addEventListener("load", () => this.start(frame.contentWindow, String(url)), { once: true })
      frame.srcdoc = "<!doctype html><title>search</title>"
      document.body.append(frame)
    }

    start(inner, url) {
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inner.document.createElement("script")
      script.src = url
      script.addEventListener("load", () => {
        this.send = (data) => inner.dispatchEvent(new MessageEvent("message", { data }))
        this.waiting.splice(0).forEach(this.send)
      })
      inner.document.body.append(script)
    }

    postMessage(data) {
      if (this.send) this.send(data)
      else this.waiting.push(data)
    }
  }
}
