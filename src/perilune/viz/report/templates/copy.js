"use strict";
// The buttons that copy commands. They are hidden if scripts do not run.
const status = document.querySelector(".status");
for (const button of document.querySelectorAll(".command button")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(code);
    const words = copied ? "Copied" : "Press Ctrl+C or Cmd+C to copy the selected command";
    button.textContent = copied ? "Copied" : "Selected";
    status.textContent = "";
    setTimeout(() => (status.textContent = words), 50); // a change, so that it is announced each time
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

/** Copy the text of an element. Without access to the clipboard, select it and try the command of older browsers. */
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}
