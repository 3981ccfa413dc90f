;;; midfill-shipped-test.el --- Ghost text of the model that ships  -*- lexical-binding: t; -*-

;;; Commentary:

;; Run by test_screen.py in batch, with the real server and a resident engine.

;;; Code:

(load (expand-file-name "midfill-test.el"
                        (file-name-directory (or load-file-name buffer-file-name))))
(ert-delete-all-tests)
(setq midfill-engine nil
      midfill-script nil
      midfill-n-threads 1
      midfill-idle-exit-s 600)

(defconst midfill-shipped-text
  (concat (mapconcat (lambda (n) (format "value_%d = read(source, %d)\n" n n))
                     (number-sequence 1 8))
          "┃"))

(defun midfill-shipped-type-until-suggested ()
  "Type what goes on until the model goes on too, and return that."
  (midfill-test-wait
   'model (lambda ()
            (and (midfill--server)
                 (member (plist-get (jsonrpc-request (midfill--server)
                                                     :midfill/status
                                                     (make-hash-table))
                                    :state)
                         '("ready" "busy")))))
  (seq-some (lambda (char)
              (midfill-test-type (string char))
              (let (answered)
                (midfill--ask nil (lambda () (setq answered t)))
                (midfill-test-wait 'answer (lambda () answered)))
              (midfill-test-ghost))
            "value_9 = read(source, 9)\nvalue_10 = read(source, 10)\n"))

(ert-deftest midfill-shipped-suggests ()
  (midfill-test-with "counting.txt" midfill-shipped-text
    (let ((ghost (midfill-shipped-type-until-suggested))
          (before (buffer-string)))
      (should ghost)
      (midfill-test-key "TAB")
      (should (equal (midfill-test-bytes)
                     (encode-coding-string (concat before ghost) 'utf-8))))))

(ert-deftest midfill-shipped-survives ()
  (midfill-test-with "counting.txt" midfill-shipped-text
    (should (midfill-shipped-type-until-suggested))
    (let ((flag (expand-file-name "project/suggested" (getenv "HOME"))))
      (write-region "suggested" nil flag nil 'silent)
      (midfill-test-wait 'killed
                         (lambda ()
                           (string-search
                            "killed" (with-temp-buffer
                                       (insert-file-contents flag)
                                       (buffer-string))))))
    (midfill-test-type "\nvalue\n")
    (should (midfill-shipped-type-until-suggested))))

(provide 'midfill-shipped-test)
;;; midfill-shipped-test.el ends here
