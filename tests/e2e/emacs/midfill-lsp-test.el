;;; midfill-lsp-test.el --- Ghost text of lsp-mode 10  -*- lexical-binding: t; -*-

;;; Commentary:

;; Run by test_emacs.py in batch, with the real server on a script.

;;; Code:

(load (expand-file-name "midfill-test.el"
                        (file-name-directory (or load-file-name buffer-file-name))))
(ert-delete-all-tests)

;; Of an unpacked package, without its autoloads.
(dolist (feature '(lsp-mode lsp-modeline lsp-headerline lsp-completion
                            lsp-diagnostics lsp-inline-completion))
  (require feature))
(require 'midfill-lsp)

(setq lsp-auto-guess-root t
      lsp-enable-suggest-server-download nil
      lsp-warn-no-matched-clients nil
      lsp-inline-completion-idle-delay 0.1)

(ert-deftest midfill-lsp-test-shows-and-accepts ()
  (midfill-test-with "area.txt" "é🙂 = return┃\n"
    (midfill-mode -1)
    (let ((lsp-session-file (make-temp-file "session")))
      (add-to-list 'lsp-language-id-configuration '(text-mode . "plaintext"))
      (lsp-workspace-folders-add (file-name-directory buffer-file-name))
      (lsp)
      (midfill-test-wait
       'lsp (lambda ()
              (and (lsp-workspaces)
                   (lsp-feature? "textDocument/inlineCompletion"))))
      (midfill-test-type " ")
      (lsp-inline-completion-display)
      (should (equal (lsp:inline-completion-item-insert-text
                      (car lsp-inline-completion--items))
                     "width * height"))
      (should (overlayp lsp-inline-completion--overlay))
      (lsp-inline-completion-accept)
      (should (equal (buffer-string) "é🙂 = return width * height\n"))
      (lsp-workspace-shutdown (car (lsp-workspaces))))))

(provide 'midfill-lsp-test)
;;; midfill-lsp-test.el ends here
