// Copies the text of the field that a button stands beside.
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const field = button.parentElement.querySelector("input");
    field.select();
    // Browsers give the clipboard to encrypted and local pages only; elsewhere the old way works.
    const copied = navigator.clipboard
      ? await navigator.clipboard.writeText(field.value).then(() => true, () => false)
      : document.execCommand("copy");
    button.textContent = copied ? "Copied" : "Press Ctrl C";
  });
}
