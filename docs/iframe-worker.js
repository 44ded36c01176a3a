// Pages that are opened from a folder (file://) may not start workers, and Material's search is one. There a worker is
// a hidden frame: what it is sent and what it sends are the same messages.
if (location.protocol === "file:") {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      addEventListener("message", event => {
        if (event.source === this.inside) this.dispatchEvent(new MessageEvent("message", { data: event.data }))
      })
      const page = this.inside.document
      page.open()
      page.write("<script>postMessage = message => parent.postMessage(message, '*')</" + "script>")
      page.write(`<script src="${url}"></` + "script>")
      page.close()
      this.ready = new Promise(resolve => { this.inside.onload = resolve })
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })))
    }
  }
  window.Worker = FrameWorker
}
