//= require rails-ujs
//= require babel_helpers
//= require activestorage
//= require_self

// A product's card comes, or changes, when the worker is through with its photo.
document.addEventListener("DOMContentLoaded", () => {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/cable`, ["actioncable-v1-json"]);
  const identifier = JSON.stringify({ channel: "ProductsChannel" });
  socket.onmessage = ({ data }) => {
    const { type, message } = JSON.parse(data);
    if (type === "welcome") socket.send(JSON.stringify({ command: "subscribe", identifier }));
    if (type === "confirm_subscription") document.body.dataset.live = "yes";
    if (!type && message) {
      const card = document.getElementById(message.id);
      if (card) card.outerHTML = message.html;
      else document.getElementById("shelf").insertAdjacentHTML("beforeend", message.html);
    }
  };
});
