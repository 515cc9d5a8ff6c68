// Refreshes the parts that are marked as live, unless paused. The pages work without it.
"use strict";

const place = document.querySelector("[data-refresh]");

function swap(page) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    // A part with the focus is kept, so that the keyboard does not lose its place.
    if (fresh && !old.contains(document.activeElement)) {
      old.replaceWith(document.adoptNode(fresh));
    }
  }
}

function refresh() {
  // XMLHttpRequest, since with it the browser parses the page: no text becomes HTML here.
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.setRequestHeader("X-Console-Refresh", "1");
  request.onload = () => {
    if (request.responseURL !== location.href.split("#")[0]) {
      location.reload(); // signed out: show it
    } else if (request.status === 200 && request.response) {
      swap(request.response);
    }
  };
  request.send();
}

if (place) {
  const seconds = Number(place.dataset.refresh);
  const button = document.createElement("button");
  let timer;
  const show = () => {
    button.textContent = timer ? `Live, every ${seconds} s` : "Paused";
    button.setAttribute("aria-pressed", String(Boolean(timer)));
  };
  const toggle = () => {
    timer = timer ? clearInterval(timer) : setInterval(refresh, seconds * 1000);
    show();
  };
  button.type = "button";
  button.className = "toggle";
  button.addEventListener("click", toggle);
  place.replaceChildren(button);
  toggle();
}
